"""Shadow, canary, active: who steers which functions under the compiled planner."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from stand_ins import TimedBackend, blank_snapshot
from test_runtime_events import Acts, plan

from stoker.baselines.base import Policy
from stoker.baselines.faascache import FaasCache
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Objective
from stoker.runtime.clock import VirtualClock
from stoker.runtime.controller import Controller
from stoker.runtime.guard import Guard
from stoker.runtime.guard_settings import GuardSettings
from stoker.runtime.orders import TwoVoices
from stoker.runtime.steering import drawn

FUNCTIONS = 12
CLUSTER = Cluster(
    Node((Gpu(12.0, 1000.0),)),
    tuple(Function(f"f{i}", 1.0, 1.0, runtime_s=1.0, alpha_s=0.5) for i in range(FUNCTIONS)),
    Objective(wait_usd_s=0.01),
)
LONG = {"budget_s": 5.0, "first_budget_s": 5.0, "event_budget_s": 5.0}


class Scene:
    """The controller over the compiled planner in virtual time, one request a function."""

    def __init__(
        self, policy: Policy, fallback: Policy | None = None, log: Any = None, **settings: Any
    ) -> None:
        self.clock = VirtualClock()
        options = GuardSettings(**{**LONG, **settings})
        self.guard = Guard(policy, CLUSTER, fallback, options, log)
        self.engine = LiveEngine(CLUSTER, self.guard.rules, act=self.guard.act)
        self.backend = TimedBackend(self.clock)
        names = [f.name for f in CLUSTER.functions]
        self.controller = Controller(self.engine, self.backend, names, self.guard, self.clock)

    def play(self, *steps: Any) -> Scene:
        async def main() -> None:
            await self.controller.start()
            for step in steps:
                await step(self)
            await self.controller.close()
            self.guard.close()

        asyncio.run(main())
        return self

    async def round(self) -> None:
        """A request to every function, then silence."""
        for fn in range(FUNCTIONS):
            self.controller.request(fn, "x")
        await self.clock.run_until(self.clock.now() + 10.0)
        await self.controller.settled()

    def order(self, name: str) -> list[float]:
        return self.engine._state.fn[0][name].tolist()  # type: ignore[no-any-return]


async def one_round(scene: Scene) -> None:
    await scene.round()


class Ticks(Policy):
    """Orders another keep-alive at every tick; raises, if told to, at the ticks listed."""

    tick_s = 10.0

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self.bad, self.asked = bad, 0

    def decide(self, snapshot: Snapshot) -> Decision:
        self.asked += 1
        if self.asked - 1 in self.bad:
            raise RuntimeError("bad")
        return Decision(keep_alive_s=np.full((1, FUNCTIONS), 1000.0 + self.asked))


# WHO STEERS


def test_a_decider_that_never_named_an_order_means_the_plan_of_the_rule() -> None:
    first = np.arange(FUNCTIONS) < 3
    voices = TwoVoices(CLUSTER, first)
    shape = (1, FUNCTIONS)
    merged = voices.merge(
        Decision(variant=np.full(shape, 2), multiplier=np.full(shape, 4.0)),
        Decision(keep_alive_s=np.full(shape, 7.0)),
    )
    assert merged.variant.tolist() == [[2] * 3 + [0] * (FUNCTIONS - 3)]
    assert merged.multiplier.tolist() == [[4.0] * 3 + [1.0] * (FUNCTIONS - 3)]
    assert merged.keep_alive_s.tolist() == [[np.inf] * 3 + [7.0] * (FUNCTIONS - 3)]


def test_a_canary_draws_the_same_functions_everywhere_and_about_its_share() -> None:
    names = [f"function-{i}" for i in range(10_000)]
    chosen = drawn(names, 0.2, seed=1)
    assert chosen.mean() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_array_equal(drawn(names[::-1], 0.2, seed=1)[::-1], chosen)
    assert (drawn(names, 0.3, seed=1) >= chosen).all(), "a larger share keeps those it had"
    assert (drawn(names, 0.2, seed=2) != chosen).any()
    assert not drawn(names, 0.0, 1).any() and drawn(names, 1.0, 1).all()


def test_in_shadow_the_fallback_steers_and_the_policy_is_asked() -> None:
    policy = Ticks()
    scene = Scene(policy, FixedTtl(33.0), mode="shadow").play(one_round, one_round)
    assert scene.order("keep_alive_s") == [33.0] * FUNCTIONS
    assert policy.asked == 3 and not scene.guard.counts.fallbacks
    assert scene.guard.counts.figures()["on_fallback"] == 1.0


def test_a_canary_steers_its_functions_and_the_fallback_the_others() -> None:
    scene = Scene(Ticks(), FixedTtl(33.0), mode="canary", canary_share=0.5)
    chosen = scene.guard.steering.chosen
    assert 0 < chosen.sum() < FUNCTIONS
    scene.play(one_round, one_round)
    assert scene.order("keep_alive_s") == np.where(chosen, 1003.0, 33.0).tolist()


def test_a_canary_that_fails_gives_its_functions_back() -> None:
    policy = Ticks(bad=(1,))
    scene = Scene(policy, FixedTtl(33.0), mode="canary", canary_share=0.5, hold_s=15.0)
    orders = []

    async def look(s: Scene) -> None:
        await s.round()
        orders.append(s.order("keep_alive_s"))

    scene.play(look, look, look)
    chosen = scene.guard.steering.chosen
    assert orders[0] == orders[1] == [33.0] * FUNCTIONS  # raised at 10, held at 20
    assert orders[2] == np.where(chosen, 1003.0, 33.0).tolist()


def test_an_event_policy_in_shadow_is_asked_and_changes_nothing() -> None:
    policy = Acts(plan(multiplier=3.0, variant=0))
    scene = Scene(policy, mode="shadow").play(one_round)
    assert policy.calls == 1 + FUNCTIONS
    assert scene.order("multiplier") == [1.0] * FUNCTIONS


def test_an_event_policy_as_a_canary_plans_for_its_functions_alone() -> None:
    policy = Acts(plan(multiplier=3.0, variant=0))
    scene = Scene(policy, mode="canary", canary_share=0.5).play(one_round)
    chosen = scene.guard.steering.chosen
    assert scene.order("multiplier") == np.where(chosen, 3.0, 1.0).tolist()
    assert policy.calls == 1 + chosen.sum() and not scene.guard.counts.fallbacks


def test_a_canary_needs_a_fallback_that_plans_likewise() -> None:
    with pytest.raises(SpecError, match=r"guard\.fallback\.rules\.plan = 'decision'"):
        Guard(Acts(plan()), CLUSTER, FixedTtl(), GuardSettings(mode="canary"))


# HANDS THAT CHANGE


@pytest.mark.parametrize("fallback", [FixedTtl(33.0), FaasCache(ttl_s=33.0)])
def test_a_fallback_with_other_rules_takes_over_from_an_event_policy_and_gives_back(
    fallback: FixedTtl,
) -> None:
    policy = Acts(plan(multiplier=3.0, variant=0))
    scene = Scene(policy, fallback, hold_s=15.0)
    rules = []

    async def look(s: Scene) -> None:
        await s.round()
        rules.append(s.engine._sim.rules)

    async def trip(s: Scene) -> None:
        s.guard.steering.trip("burn")

    scene.play(look, trip, look, look, look)
    hazard = policy.rules
    # tripped at 10, held for 15 s: the round at 10 is the fallback's, at 20 too, then a trial
    assert rules[0] == hazard and rules[1] == rules[2] == fallback.rules and rules[3] == hazard
    assert scene.guard.counts.fallbacks["burn"] == 1
    counts = scene.controller.statistics.counts
    assert counts["served"] == counts["requests"] == 4 * FUNCTIONS


def test_while_the_fallback_has_the_helm_its_orders_stand_and_not_the_plan() -> None:
    scene = Scene(Acts(plan(multiplier=3.0)), FixedTtl(33.0), hold_s=1e5, longest_hold_s=1e6)

    async def trip(s: Scene) -> None:
        s.guard.steering.trip("burn")

    scene.play(one_round, trip, one_round)
    assert scene.order("keep_alive_s") == [33.0] * FUNCTIONS
    assert scene.order("prewarm_after_s") == [np.inf] * FUNCTIONS


def test_late_requests_under_the_policy_hand_the_helm_over() -> None:
    """Every request waits for a load: late against an SLO of 1 s."""
    functions = tuple(
        Function(f"f{i}", 1.0, 1.0, runtime_s=1.0, alpha_s=0.5, slo_s=1.0) for i in range(FUNCTIONS)
    )
    cluster = Cluster(CLUSTER.all_nodes, functions)
    clock = VirtualClock()
    settings = GuardSettings(slo_budget=0.05, hold_s=1e5, longest_hold_s=1e6, **LONG)
    guard = Guard(Ticks(), cluster, FixedTtl(33.0), settings)
    engine = LiveEngine(cluster, guard.rules)
    controller = Controller(engine, TimedBackend(clock), [f.name for f in functions], guard, clock)

    async def main() -> None:
        await controller.start()
        for fn in range(FUNCTIONS):
            controller.request(fn, "x")
            controller.request(fn, "y")
        await clock.run_until(9.0)
        await controller.close()

    asyncio.run(main())
    assert guard.counts.reason == "burn"
    assert engine._state.fn[0]["keep_alive_s"].tolist() == [33.0] * FUNCTIONS


def test_what_was_never_seen_in_training_is_decided_by_the_heuristic() -> None:
    policy = Acts(plan(multiplier=3.0, variant=0))
    policy.manifest = {"seen": {"low": [-9.0] * 73, "high": [-8.0] * 73}}  # type: ignore[attr-defined]
    scene = Scene(policy, hold_s=1e5, longest_hold_s=1e6).play(one_round)
    assert scene.order("multiplier") == [1.0] * FUNCTIONS and policy.calls == 1
    assert scene.guard.counts.fallbacks == {"unseen": 3, "held": FUNCTIONS - 3}


def test_a_snapshot_of_another_age_does_not_reach_an_event_policy_in_question() -> None:
    snapshot = blank_snapshot(FUNCTIONS)
    guard = Guard(Acts(plan()), CLUSTER, settings=GuardSettings(max_age_s=1.0, **LONG))
    snapshot.age_s[0] = 2.0
    asyncio.run(guard.decide(snapshot))
    guard.close()
    assert guard.counts.reason == "stale" and not guard.steering.steers
