"""Hours of virtual time on the whole controller, with everything that goes wrong, and its books.

Invariants: every request ends exactly once and as the planner has booked it; a device never holds
more than it has room for; what the backend holds is what the planner believes it holds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rough_backend import PLACES, RoughBackend
from test_runtime_modes import LONG

from stoker.baselines.base import IdlePolicy, Policy
from stoker.baselines.faascache import FaasCache
from stoker.baselines.hazard import HazardIndex
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.decision import Decision, IdlePlan, Snapshot
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Objective
from stoker.envs.cluster.tables import EXPERTS
from stoker.runtime.clock import VirtualClock
from stoker.runtime.controller import Controller
from stoker.runtime.controller_settings import ControllerSettings
from stoker.runtime.guard import Guard
from stoker.runtime.guard_settings import GuardSettings
from stoker.runtime.requests import ENDS, RequestFailed

HOURS = 2.0
FUNCTIONS = 10
NAMES = [f"f{i}" for i in range(FUNCTIONS)]
CLUSTER = Cluster(
    Node(tuple(Gpu(3.0, 2.0, sharing="exclusive") for _ in range(PLACES)), host_gib=4.0),
    tuple(
        Function(f"f{i}", 1.0, 1.0, runtime_s=2.0 + i, load_gib_s=2.0, alpha_s=0.3, beta_s=0.05,
                 max_batch=4, slo_s=20.0)
        for i in range(FUNCTIONS)
    ),
    Objective(wait_usd_s=0.01),
)  # fmt: skip


SIZES_GIB = (1.0, 1.0, 2.0, 0.5, 1.5, 0.5, 2.5, 1.0, 2.0, 3.0)
UNEVEN = replace(
    CLUSTER,
    functions=tuple(
        replace(f, weights_gib=size, device_gib=size)
        for f, size in zip(CLUSTER.functions, SIZES_GIB, strict=True)
    ),
)
"""One that comes may need the room of several that leave."""


class Scenario:
    """One run: bursty traffic, clients that leave, faults, stalls.

    Args:
        policy: at the helm.
        seed: of the traffic and of the faults.
        roughness: how often orders fail; 0 = nothing goes wrong.
        recycle: give numbers of requests out again.
        cluster: of the functions.
        every_s: mean time between two bursts, and a device dies in between...
        deaths: ...so often.
        guard: its settings.
    """

    def __init__(
        self, policy: Policy, seed: int, roughness: float, recycle: bool = False,
        cluster: Cluster = CLUSTER, every_s: float = 6.0, deaths: float = 0.01, **guard: Any,
    ) -> None:  # fmt: skip
        self.recycle, self.cluster = recycle, cluster
        self.every_s, self.deaths = every_s, deaths
        self.rng = np.random.default_rng(seed)
        self.clock = VirtualClock()
        self.backend = RoughBackend(self.clock, np.random.default_rng([seed, 1]), roughness)
        self.roughness = roughness
        fallback = FixedTtl(300.0)
        settings = GuardSettings(**{**LONG, "hold_s": 120.0, **guard})
        self.guard = Guard(policy, cluster, fallback, settings)
        limits = ControllerSettings(deadline_s=20.0, queue_limit=20, residency_s=15.0)
        self.engine = LiveEngine(
            cluster, self.guard.rules, act=self.guard.act, residency_s=limits.residency_s,
            recycle=recycle,
        )  # fmt: skip
        self.controller = Controller(
            self.engine, self.backend, NAMES, self.guard, self.clock, limits
        )
        self.ends: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()

    def play(self) -> Scenario:
        asyncio.run(self._main())
        self.guard.close()
        return self

    async def _main(self) -> None:
        await self.controller.start()
        end_s, k = 3600.0 * HOURS, 0
        while self.clock.now() < end_s:
            burst = self.rng.random() < 0.05
            fn = int(FUNCTIONS * self.rng.random() ** 2)
            for _ in range(int(self.rng.integers(5, 60)) if burst else 1):
                self._send(k, fn)
                k += 1
            await self._pass(float(self.rng.exponential(self.every_s)))
            self._check()
        await self.clock.run_until(end_s + 600.0)
        self._check()
        assert self.controller.open_requests == 0
        self.result = self.engine.result(self.clock.now())
        await self.controller.close()
        self.sent = k

    def _send(self, k: int, fn: int) -> None:
        future = self.controller.request(fn, f"{k}-")
        future.add_done_callback(lambda done: self._ended(k, done))
        if self.rng.random() < 0.1 * (self.roughness > 0.0):
            leaves_s = self.clock.now() + float(self.rng.exponential(5.0))
            self.clock.call_at(leaves_s, future.cancel)  # type: ignore[arg-type]

    def _ended(self, k: int, done: asyncio.Future[Any]) -> None:
        self.ends[k] += 1
        if done.cancelled():
            self.outcomes["cancelled"] += 1
        elif done.exception() is not None:
            assert isinstance(done.exception(), RequestFailed)
            self.outcomes["refused"] += 1
        else:
            assert done.result().output == f"{k}-{k}-", "the answer is this request's own"
            self.outcomes["served"] += 1

    async def _pass(self, seconds: float) -> None:
        # Never past a tick: its decision, on a thread, belongs to that instant.
        end_s = self.clock.now() + seconds
        tick_s = min(self.guard.tick_s, 1e9)
        while (tick := tick_s * (self.clock.now() // tick_s + 1)) < end_s:
            await self.clock.run_until(tick)
            await self.controller.settled()
        await self.clock.run_until(end_s)
        await self.controller.settled()
        if self.rng.random() < self.deaths * (self.roughness > 0.0):
            self.backend.strike(int(self.rng.integers(PLACES)))
        if self.rng.random() < 0.005 * (self.roughness > 0.0):
            self.clock.stall(float(self.rng.uniform(1.0, 90.0)))

    def _check(self) -> None:
        """What the backend holds is what the planner believes, less loads put off."""
        seen = self.engine.snapshot()
        sizes = [f.device_gib for f in self.cluster.functions]
        held = [sum(sizes[fn] for fn in device.values()) for device in self.backend.on]
        believed = 3.0 - seen.free_gib[0]
        for instance, load in self.controller._effector._instances.items():
            if instance not in self.backend.on[load.gpu]:
                believed[load.gpu] -= sizes[load.fn]
        assert held == pytest.approx(believed)
        assert max(held) <= 3.0
        kept = sum(sizes[fn] for fn in self.backend.host)
        assert kept == pytest.approx(4.0 - seen.host_free_gib[0])
        assert self.controller.fault is None


class Residual(IdlePolicy):
    """A plan drawn at random; from time to time none, or nonsense."""

    def __init__(self, rough: bool) -> None:
        self.rng, self.rough = np.random.default_rng(5), rough

    def act(self, observation: np.ndarray) -> IdlePlan:
        n = len(observation)
        mix = np.zeros((n, EXPERTS))
        mix[:, 0] = 1.0
        multiplier = np.exp(self.rng.normal(size=n))
        if self.rough and self.rng.random() < 0.2:
            multiplier[:] = np.nan
        if self.rough and self.rng.random() < 0.05:
            raise RuntimeError("odd")
        return IdlePlan(mix, multiplier, self.rng.integers(0, 3, n))


class Restless(Policy):
    """Orders drawn at random at every tick: the worst that is legal; sometimes it is not."""

    tick_s = 60.0

    def __init__(self, rough: bool) -> None:
        self.rng, self.rough = np.random.default_rng(6), rough

    def decide(self, snapshot: Snapshot) -> Decision:
        shape, rng = (1, FUNCTIONS), self.rng
        if self.rough and rng.random() < 0.1:
            raise RuntimeError("odd")
        keep = rng.choice([0.0, 5.0, 100.0, np.inf], shape)
        if self.rough and rng.random() < 0.1:
            keep[0, 0] = np.nan
        return Decision(
            keep_alive_s=keep,
            host_keep_alive_s=rng.choice([0.0, 50.0], shape),
            prewarm=rng.integers(0, 2, shape).astype(np.int32),
            max_batch=rng.integers(1, 5, shape).astype(np.int32),
            batch_wait_s=rng.choice([0.0, 2.0], shape),
            min_batch=rng.integers(1, 4, shape).astype(np.int32),
            max_instances=rng.integers(1, 4, shape).astype(np.int32),
            drop_head=(rng.random(shape) < 0.02).astype(np.int32),
        )


def settled(scenario: Scenario) -> dict[str, int]:
    """Check the books at the end; return how requests ended."""
    counts = scenario.controller.statistics.counts
    assert set(scenario.ends.values()) == {1} and len(scenario.ends) == scenario.sent
    ends = {kind: counts[kind] for kind in ENDS}
    assert sum(ends.values()) == counts["requests"] == scenario.sent
    # A client may leave when its answer is on its way: then it has gone, whatever the books say.
    assert scenario.outcomes["served"] <= ends["served"]
    assert scenario.outcomes["cancelled"] == ends["cancelled"]
    planner = scenario.result.counters
    assert scenario.result.outcome.tier.max() < 255, "the planner has closed every request"
    booked = planner["served"] + planner["drops"] + planner["failed"]
    assert booked == scenario.sent - ends["overflow"]
    places = len(scenario.result.outcome.tier)
    assert places < 500 if scenario.recycle else places == booked
    return ends


@pytest.mark.parametrize(
    "policy",
    [FaasCache(), HazardIndex(), Residual(False), Restless(False)],
    ids=lambda policy: type(policy).__name__,
)
def test_hours_without_faults(policy: Policy) -> None:
    scenario = Scenario(policy, 0, 0.0).play()
    ends = settled(scenario)
    assert ends["failed"] == ends["cancelled"] == 0
    assert ends["served"] > 2000 and ends["overflow"] > 0, "bursts exceed a queue"
    assert scenario.backend.most == 3
    assert not scenario.guard.counts.fallbacks


@pytest.mark.parametrize("mode", ["active", "shadow"])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("made", [Residual, Restless])
def test_hours_with_everything_that_goes_wrong(
    made: type[Residual] | type[Restless], seed: int, mode: str
) -> None:
    scenario = Scenario(made(True), seed, 0.03, mode=mode, max_age_s=30.0, slo_budget=0.05).play()
    ends = settled(scenario)
    assert min(ends["served"], ends["failed"], ends["cancelled"], ends["expired"]) > 0
    counts = scenario.guard.counts
    assert counts.trips > 0 and counts.fallbacks["held"] > 0
    assert set(counts.fallbacks) <= {"raised", "nan", "held", "stale", "burn", "slow"}


def test_the_same_seed_gives_the_same_hours() -> None:
    runs = [Scenario(Residual(True), 3, 0.03).play() for _ in range(2)]
    assert runs[0].outcomes == runs[1].outcomes
    np.testing.assert_array_equal(runs[0].result.outcome.finish_s, runs[1].result.outcome.finish_s)


@pytest.mark.parametrize("made", [Residual, Restless])
def test_numbers_that_are_given_out_again_mix_nobody_up(
    made: type[Residual] | type[Restless],
) -> None:
    scenario = Scenario(made(True), 7, 0.05, recycle=True, max_age_s=30.0).play()
    ends = settled(scenario)
    assert min(ends["served"], ends["failed"], ends["cancelled"]) > 0


@pytest.mark.parametrize("seed", range(2))
def test_devices_that_die_under_load_take_nothing_along_that_comes_after(seed: int) -> None:
    scenario = Scenario(
        Restless(True), seed, 0.03, True, UNEVEN, every_s=1.0, deaths=0.1, max_age_s=30.0
    ).play()
    ends = settled(scenario)
    assert min(ends["served"], ends["failed"]) > 0
    assert scenario.controller.statistics.counts["lost_instances"] > 500


def test_a_canary_among_hours_of_faults() -> None:
    scenario = Scenario(
        Restless(True), 4, 0.03, mode="canary", canary_share=0.4, max_age_s=30.0
    ).play()
    settled(scenario)
    assert scenario.guard.counts.trips > 0
