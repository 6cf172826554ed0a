from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from stand_ins import OneInstance, TimedBackend, blank_snapshot

from stoker.baselines.base import Policy
from stoker.baselines.torpor import Torpor
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.runtime.clock import VirtualClock
from stoker.runtime.controller import Controller
from stoker.runtime.guard import Guard
from stoker.runtime.guard_settings import GuardSettings

CLUSTER = Cluster(Node((Gpu(1.0),)), (Function("a", 0.1, 0.1), Function("b", 0.1, 0.1)))
KEEP = Decision(keep_alive_s=np.array([[1.0, np.inf]]))


class Says(Policy):
    tick_s = 1.0

    def __init__(self, *answers: object) -> None:
        self.answers, self.asked = list(answers), 0

    def decide(self, snapshot: Snapshot) -> Decision:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            time.sleep(answer)
            return Decision()
        return answer  # type: ignore[return-value]


class Asked:
    """A guard asked once a virtual second."""

    def __init__(
        self, *answers: object, fallback: Policy | None = None, **settings: object
    ) -> None:
        self.policy, self.clock = Says(*answers), VirtualClock()
        options = {"first_budget_s": 5.0, "budget_s": 5.0, "hold_s": 0.0, **settings}
        self.guard = Guard(self.policy, CLUSTER, fallback, GuardSettings(**options))  # type: ignore[arg-type]
        self.guard.attend(OneInstance(2), self.clock)

    def __call__(self, times: int = 1, **seen: object) -> list[Decision]:
        async def decide() -> list[Decision]:
            given: list[Decision] = []
            for _ in range(times):
                snapshot = blank_snapshot(2)
                snapshot.now_s[0] = self.clock.now()
                for name, value in seen.items():
                    getattr(snapshot, name)[0] = value
                decision = await self.guard.decide(snapshot)
                assert decision is not None
                given.append(decision)
                self.clock.stall(1.0)
            return given

        return asyncio.run(decide())

    @property
    def fallbacks(self) -> dict[str, int]:
        return dict(self.guard.counts.fallbacks)


def test_a_good_decision_passes_untouched() -> None:
    asked = Asked(KEEP)
    assert asked()[0] is KEEP and not asked.fallbacks
    assert len(asked.guard.counts.seconds) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Decision(keep_alive_s=np.array([[np.nan, 1.0]])), "nan"),
        (Decision(keep_alive_s=np.ones((1, 3))), "malformed"),
        (Decision(keep_alive_s="x"), "malformed"),  # type: ignore[arg-type]
        (None, "malformed"),
        (ValueError("odd"), "raised"),
        (0.5, "slow"),
    ],
)
def test_a_bad_policy_is_replaced_and_counted(answer: object, reason: str) -> None:
    asked = Asked(answer, budget_s=0.1, first_budget_s=0.1)
    (given,) = asked()
    assert asked.fallbacks == {reason: 1}
    assert asked.guard.fallback_name == "KeepAll"
    assert given.keep_alive_s is not None and np.isinf(given.keep_alive_s).all()
    if reason == "raised":
        assert asked.guard.counts.last_error == "ValueError: odd"


def test_a_slow_policy_is_not_asked_again_before_it_is_done() -> None:
    began = time.perf_counter()
    asked = Asked(0.5, budget_s=0.05, first_budget_s=0.05)
    asked(3)
    assert asked.fallbacks == {"slow": 3} and asked.policy.asked == 1
    assert time.perf_counter() - began < 0.45


def test_the_first_decision_may_take_longer() -> None:
    asked = Asked(0.2, budget_s=0.05)
    asked(2)
    assert asked.fallbacks == {"slow": 1} and len(asked.guard.counts.seconds) == 1


def test_after_its_hold_a_policy_is_tried_again_and_the_hold_doubles() -> None:
    bad = RuntimeError("bad")
    asked = Asked(bad, bad, KEEP, bad, KEEP, hold_s=3.0)
    given = asked(25)
    # asked at 0 (bad: until 3), 3 (bad: until 9), 9 (good), 10 (bad: until 22), 22 (good) ...
    assert [t for t, decision in enumerate(given) if decision is KEEP] == [23, 24]
    assert asked.policy.asked == 7
    assert asked.fallbacks == {"raised": 3, "held": 2 + 5 + 11}
    counts = asked.guard.counts
    assert (counts.trips, counts.state, counts.reason) == (3, "closed", "raised")


def test_a_policy_that_decides_once_for_all_is_tried_again_too() -> None:
    asked = Asked(RuntimeError("bad"), KEEP, hold_s=3.0)
    asked.policy.tick_s = np.inf
    given = asked(4)
    assert given[3].keep_alive_s is not None and given[3].keep_alive_s.tolist() == [[1.0, np.inf]]
    assert asked.policy.asked == 2 and asked.guard.counts.state == "closed"
    assert asked.guard.tick_s == 3.0, "so that somebody asks"


def test_a_hold_is_forgotten_by_who_behaves_for_as_long() -> None:
    bad = RuntimeError("bad")
    asked = Asked(bad, *[KEEP] * 6, bad, KEEP, hold_s=3.0)
    asked(15)  # bad at 0, good from 3 to 8, bad at 9: three seconds again, good from 12
    assert asked.fallbacks == {"raised": 2, "held": 2 + 2}


def test_a_fallback_of_ones_choice_finds_orders_as_they_were_at_first() -> None:
    reserved = Decision(keep_alive_s=np.full((1, 2), 5.0), prewarm=np.array([[3, 3]], np.int32))
    asked = Asked(reserved, RuntimeError("bad"), fallback=FixedTtl(77.0))
    _, given = asked(2)
    assert given.keep_alive_s is not None and given.keep_alive_s.tolist() == [[77.0, 77.0]]
    assert given.prewarm is not None and given.prewarm.tolist() == [[0, 0]]
    assert asked.guard.fallback_name == "FixedTtl"


def test_a_fallback_that_fails_too_keeps_what_is_loaded() -> None:
    asked = Asked(RuntimeError("bad"), fallback=Says(RuntimeError("worse")))
    (given,) = asked()
    assert given.keep_alive_s is not None and np.isinf(given.keep_alive_s).all()
    assert asked.fallbacks == {"raised": 1, "fallback_raised": 1}
    assert asked.guard.counts.last_error == "RuntimeError: worse"


def test_a_fallback_that_takes_its_time_is_waited_for_and_counted() -> None:
    class Slow(Says):
        def decide(self, snapshot: Snapshot) -> Decision:
            time.sleep(0.06)
            return super().decide(snapshot)

    asked = Asked(RuntimeError("bad"), fallback=Slow(KEEP), budget_s=0.05)
    (given,) = asked()
    assert given.keep_alive_s is not None and (given.keep_alive_s == KEEP.keep_alive_s).all()
    assert asked.fallbacks == {"raised": 1, "fallback_slow": 1}


def test_figures_that_are_too_old_are_no_ground_for_a_decision() -> None:
    asked = Asked(KEEP, max_age_s=4.0)
    asked(age_s=3.9)
    assert not asked.fallbacks
    asked(age_s=4.1)
    assert asked.fallbacks == {"stale": 1} and asked.policy.asked == 1
    asked(2)
    assert asked.guard.counts.state == "closed"


def test_a_loop_that_stood_still_costs_the_policy_the_helm() -> None:
    asked = Asked(KEEP, max_age_s=4.0, hold_s=10.0)
    asked()
    asked.guard.lagged(3.0)
    assert not asked.guard.changed
    asked.guard.lagged(5.0)
    assert asked.guard.changed and asked.fallbacks == {"stale": 1}


def test_what_a_policy_has_never_seen_is_not_put_to_it() -> None:
    asked = Asked(KEEP)
    asked.policy.manifest = {"seen": {"low": [0.0] * 10, "high": [1.0] * 10}}  # type: ignore[attr-defined]
    guard = Guard(asked.policy, CLUSTER, settings=GuardSettings(max_unseen=0.2))
    seen = guard._seen
    assert seen is not None
    row = np.full((1, 10), 0.5, np.float32)
    row[0, :2] = 7.0
    assert seen.outside(row) == pytest.approx([0.2])
    row[0, 2] = np.nan
    assert seen.outside(row) == pytest.approx([0.3])
    assert seen.outside(np.zeros((1, 4), np.float32)) == [0.0]


@pytest.mark.parametrize(
    "seen", [{"low": [1.0], "high": [0.0]}, {"low": "x", "high": [1.0]}, {"low": [0.0], "high": []}]
)
def test_a_range_that_is_none_is_refused(seen: object) -> None:
    policy = Says(KEEP)
    policy.manifest = {"seen": seen}  # type: ignore[attr-defined]
    with pytest.raises(SpecError, match=r"bundle\.seen"):
        Guard(policy, CLUSTER)


def test_requests_that_come_too_late_cost_the_policy_the_helm_but_not_the_fallback() -> None:
    asked = Asked(KEEP, slo_budget=0.05, hold_s=100.0)
    asked()
    for _ in range(19):
        asked.guard.ended(0, np.inf)
    assert not asked.guard.changed, "of so few no share is known"
    asked.guard.ended(0, np.inf)
    assert asked.guard.changed and asked.fallbacks == {"burn": 1}
    for _ in range(100):
        asked.guard.ended(0, np.inf)
    assert asked.fallbacks == {"burn": 1}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"budget_s": 0.0}, r"guard\.budget_s = 0\.0"),
        ({"event_budget_s": 0.0}, r"guard\.event_budget_s = 0\.0"),
        ({"mode": "passive"}, r"guard\.mode = 'passive'.*shadow \| canary \| active"),
        ({"canary_share": 1.1}, r"guard\.canary_share"),
        ({"max_unseen": -0.1}, r"guard\.max_unseen"),
        ({"slo_budget": 0.0}, r"guard\.slo_budget"),
        ({"hold_s": float("inf")}, r"guard\.hold_s"),
        ({"hold_s": 5.0, "longest_hold_s": 4.0}, r"guard\.longest_hold_s"),
        ({"max_age_s": float("nan")}, r"guard\.max_age_s"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, object], field: str) -> None:
    with pytest.raises(SpecError, match=field):
        GuardSettings(**settings)  # type: ignore[arg-type]


def test_a_fallback_whose_rules_cannot_take_over_is_refused() -> None:
    with pytest.raises(SpecError, match=r"guard\.fallback\.rules\.order"):
        Guard(Says(KEEP), CLUSTER, Torpor())


def test_the_controller_asks_at_every_tick_and_survives_a_raising_policy() -> None:
    async def serve() -> tuple[OneInstance, Guard]:
        clock = VirtualClock()
        settings = GuardSettings(budget_s=5.0, hold_s=0.0)
        planner, guard = OneInstance(2), Guard(Says(RuntimeError("bad")), CLUSTER, None, settings)
        controller = Controller(planner, TimedBackend(clock), ["a", "b"], guard, clock)
        await controller.start()
        for step in range(1, 6):
            await clock.run_until(float(step))
            await controller.settled()
        await controller.close()
        return planner, guard

    planner, guard = asyncio.run(serve())
    assert guard.counts.fallbacks["raised"] == guard.counts.decisions == 6
    assert len(planner.applied) == 1  # the orders of the fallback, which stand
