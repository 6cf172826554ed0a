"""The controller under the compiled engine in live mode."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from stand_ins import TimedBackend

from stoker.baselines.base import Policy
from stoker.baselines.batch_policy import BatchPolicy
from stoker.baselines.batched import Batched
from stoker.baselines.nexus import Nexus
from stoker.baselines.triton import Triton
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.observe import FEATURES
from stoker.envs.cluster.observe_all import SLOT
from stoker.envs.cluster.simulation import Simulation, simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Rules
from stoker.envs.cluster.tick_observer import by_function
from stoker.envs.workload.workload import Workload
from stoker.runtime.backend_protocol import Listener
from stoker.runtime.clock import VirtualClock
from stoker.runtime.controller import Controller
from stoker.runtime.guard import Guard
from stoker.runtime.guard_settings import GuardSettings
from stoker.runtime.messages import Reply
from stoker.runtime.requests import RequestFailed


class Keep(Policy):
    tick_s = float("inf")

    def __init__(self, device_s: float, host_s: float, wait_s: float = 0.0, least: int = 1) -> None:
        self.rules = Rules(eviction="lru")
        self.orders = (device_s, host_s, wait_s, least)

    def reset(self, cluster: Cluster, rows: int) -> None:
        self.shape = (rows, len(cluster.functions))

    def decide(self, snapshot: Snapshot) -> Decision:
        device_s, host_s, wait_s, least = self.orders
        return Decision(
            keep_alive_s=np.full(self.shape, device_s),
            host_keep_alive_s=np.full(self.shape, host_s),
            batch_wait_s=np.full(self.shape, wait_s),
            min_batch=np.full(self.shape, least, np.int32),
        )


class Prewarm(Keep):
    """One function always on the device, one fetched to the host, one loaded ahead."""

    def decide(self, snapshot: Snapshot) -> Decision:
        decision = super().decide(snapshot)
        decision.prewarm = np.zeros(self.shape, np.int32)
        decision.prewarm_host = np.zeros(self.shape, np.int32)
        decision.prewarm_after_s = np.full(self.shape, np.inf)
        decision.prewarm_keep_s = np.full(self.shape, 2.0)
        decision.prewarm[:, 0] = decision.prewarm_host[:, 3] = 1
        decision.prewarm_after_s[:, 1] = 1.5
        return decision


def cluster(functions: int = 6, host_gib: float = 3.0) -> Cluster:
    made = tuple(
        Function(
            f"f{i}", 1.0, 1.0, runtime_s=0.1 + 0.05 * i, load_gib_s=2.0, alpha_s=0.02 + 0.01 * i,
            beta_s=0.005, max_batch=4,
        )
        for i in range(functions)
    )  # fmt: skip
    gpus = tuple(Gpu(2.0, 1.0, sharing="exclusive") for _ in range(2))
    return Cluster(Node(gpus, host_gib=host_gib), made)


class AsSimulated(TimedBackend):
    """Takes the times that the cluster's spec says."""

    def __init__(self, clock: VirtualClock, spec: Cluster) -> None:
        super().__init__(clock)
        self.spec = spec
        self.fn_of: dict[int, int] = {}

    def load(self, gpu: int, instance: int, fn: int, source: str) -> asyncio.Future[Reply]:
        self.load_s = self.spec.load_s(fn, source)
        self.fn_of[instance] = fn
        return super().load(gpu, instance, fn, source)

    def fetch_host(self, fn: int) -> asyncio.Future[Reply]:
        f = self.spec.functions[fn]
        self.log.append((self.clock.now(), "fetch", fn))
        return self._later(f.weights_gib / f.load_gib_s, None)

    def run(
        self, gpu: int, instance: int, payloads: Sequence[Any], listener: Listener | None = None
    ) -> asyncio.Future[Reply]:
        f = self.spec.functions[self.fn_of[instance]]
        self.batch_s = f.alpha_s + f.beta_s * len(payloads)
        return super().run(gpu, instance, payloads)


async def reach(clock: VirtualClock, until_s: float, policy: Policy) -> None:
    """Go on to a time; at every tick wait for the policy, which decides on a thread of its own."""
    while (tick_s := clock.now() // policy.tick_s * policy.tick_s + policy.tick_s) <= until_s:
        asked = len(policy.seen)
        await clock.run_until(tick_s)
        while len(policy.seen) == asked:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
    await clock.run_until(until_s)


async def serve(
    spec: Cluster, work: Workload, policy: Policy
) -> tuple[LiveEngine, Controller, list[asyncio.Future[Any]]]:
    clock = VirtualClock()
    guard = Guard(policy, spec, settings=GuardSettings(budget_s=30.0, event_budget_s=30.0))
    engine = LiveEngine(spec, policy.rules, capacity=4, batched=guard.batched)
    names = [f.name for f in spec.functions]
    controller = Controller(engine, AsSimulated(clock, spec), names, guard, clock)
    await controller.start()
    futures = []
    for at_s, fn in zip(work.arrival_s, work.function, strict=True):
        await reach(clock, float(at_s), policy)
        futures.append(controller.request(int(fn), "x"))
    await reach(clock, work.horizon_s, policy)
    return engine, controller, futures


def traffic(seed: int, functions: int = 6, requests: int = 400, until_s: float = 60.0) -> Workload:
    rng = np.random.default_rng(seed)
    names = tuple(f"f{i}" for i in range(functions))
    arrival_s = np.sort(rng.uniform(0.0, until_s, requests))
    function = (rng.integers(0, functions, requests) * rng.random(requests)).astype(np.int32)
    return Workload(arrival_s, function, names, until_s + 20.0)


@pytest.mark.parametrize(
    "policy",
    [
        Keep(np.inf, 0.0),
        Keep(1.0, 5.0),
        Keep(0.0, np.inf),
        Keep(3.0, 3.0, wait_s=0.1, least=3),
        Prewarm(0.5, 4.0),
    ],
    ids=["keep", "host", "drop", "batch", "prewarm"],
)
def test_in_virtual_time_the_runtime_is_the_simulator(policy: Keep) -> None:
    spec, work = cluster(), traffic(1)
    simulation = Simulation([spec], [work], policy.rules)
    policy.reset(spec, 1)
    simulation.apply(policy.decide(simulation.snapshot()))
    simulation.run()
    expected = simulation.result()

    async def main() -> Any:
        engine, controller, futures = await serve(spec, work, policy)
        assert controller.open_requests == 0 and all(f.result().output == "xx" for f in futures)
        return engine.result(work.horizon_s)

    found = asyncio.run(main())
    np.testing.assert_array_equal(found.outcome.tier, expected.outcome.tier)
    np.testing.assert_allclose(found.outcome.start_s, expected.outcome.start_s, atol=1e-9)
    np.testing.assert_allclose(found.outcome.finish_s, expected.outcome.finish_s, atol=1e-9)
    assert found.summary() == pytest.approx(expected.summary(), rel=1e-9, abs=1e-9)


def with_targets(slo_s: float) -> Cluster:
    spec = cluster()
    return replace(spec, functions=tuple(replace(f, slo_s=slo_s) for f in spec.functions))


@pytest.mark.parametrize("batches", [Nexus(), Triton(8, delay=0.3)], ids=["nexus", "triton"])
def test_under_a_policy_of_batches_the_runtime_is_the_simulator(batches: BatchPolicy) -> None:
    spec, work = with_targets(0.8), traffic(2, requests=900)
    (expected,) = simulate(spec, work, Batched(batches))
    assert expected.counters["drops"] > 0 if isinstance(batches, Nexus) else True

    async def main() -> Any:
        engine, controller, _ = await serve(spec, work, Batched(batches))
        assert controller.open_requests == 0
        return engine.result(work.horizon_s)

    found = asyncio.run(main())
    np.testing.assert_array_equal(found.outcome.tier, expected.outcome.tier)
    np.testing.assert_allclose(found.outcome.finish_s, expected.outcome.finish_s, atol=1e-9)
    assert found.summary() == pytest.approx(expected.summary(), rel=1e-9, abs=1e-9)


class Observes(Policy):
    """Keeps what the observation says has arrived lately."""

    observes, tick_s = True, 5.0
    seen: list[np.ndarray]

    def reset(self, cluster: Cluster, rows: int) -> None:
        self.seen = []

    def decide(self, snapshot: Snapshot) -> Decision:
        self.seen.append(snapshot.observation[0])
        slots = by_function(snapshot.observation)
        kept = slots[:, 1:SLOT].sum(axis=1) > np.median(slots[:, 1:SLOT].sum(axis=1))
        return Decision(keep_alive_s=np.where(kept, np.inf, 0.0)[None])


def test_live_and_simulated_observations_are_the_same() -> None:
    spec, work = with_targets(0.8), traffic(3)
    simulated, live = Observes(), Observes()
    (expected,) = simulate(spec, work, simulated)

    async def main() -> Any:
        engine, _, _ = await serve(spec, work, live)
        return engine.result(work.horizon_s)

    found = asyncio.run(main())
    assert len(live.seen) >= len(simulated.seen) == 16
    names = [name for name, _ in FEATURES]
    link = 1 + names.index("link_queue")  # real loads are counted from their order on
    known = np.delete(np.arange(SLOT), link)
    for ours, theirs in zip(live.seen, simulated.seen, strict=False):
        ours, theirs = by_function(ours[None]), by_function(theirs[None])
        np.testing.assert_array_equal(ours[:, known], theirs[:, known])
        assert (ours[:, link] >= theirs[:, link]).all()
    assert found.summary() == pytest.approx(expected.summary(), rel=1e-9, abs=1e-9)


class Budgets(Keep):
    """A larger budget for the first function from the third tick on; the others are left alone."""

    tick_s = 5.0
    seen: list[int]

    def reset(self, cluster: Cluster, rows: int) -> None:
        super().reset(cluster, rows)
        self.seen = []

    def decide(self, snapshot: Snapshot) -> Decision:
        self.seen.append(len(self.seen))
        decision = super().decide(snapshot)
        decision.token_budget = np.full(self.shape, 256)
        decision.token_budget[0, 0] = 1024 if len(self.seen) > 2 else 3
        return decision


def test_token_budgets_reach_the_backend_when_they_change() -> None:
    spec = cluster(3)
    work = Workload(np.array([1.0]), np.zeros(1, np.int32), ("f0", "f1", "f2"), 30.0)

    async def main() -> list[tuple[int, int]]:
        _, controller, _ = await serve(spec, work, Budgets(np.inf, 0.0))
        budgets: list[tuple[int, int]] = controller.backend.budgets  # type: ignore[attr-defined]
        return budgets

    # What is too small for an iteration is clipped to the least.
    assert asyncio.run(main()) == [(0, 16), (1, 256), (2, 256), (0, 1024)]


def test_a_burst_on_a_cold_function_is_one_load_a_slot_at_most() -> None:
    spec = cluster(1)
    burst = Workload(np.zeros(200), np.zeros(200, np.int32), ("f0",), 30.0)

    async def main() -> Controller:
        _, controller, futures = await serve(spec, burst, Keep(np.inf, 0.0))
        assert all(f.result().output == "xx" for f in futures)
        return controller

    counts = asyncio.run(main()).statistics.counts
    assert counts["loads_disk"] <= sum(round(g.memory_gib) for g in spec.node.gpus)
    assert counts["served"] == 200


def test_a_dead_device_fails_its_batch_and_the_next_request_is_served() -> None:
    spec = cluster(2)
    work = Workload(np.array([0.0, 0.7]), np.zeros(2, np.int32), ("f0", "f1"), 0.71)

    async def main() -> None:
        engine, controller, futures = await serve(spec, work, Keep(np.inf, 0.0))
        clock, backend = controller.clock, controller.backend
        assert isinstance(clock, VirtualClock) and isinstance(backend, AsSimulated)
        assert futures[0].result().output == "xx" and not futures[1].done()
        backend.die()
        with pytest.raises(RequestFailed, match="worker of device 0 died"):
            futures[1].result()
        again = controller.request("f0", "y")
        await clock.run_until(10.0)
        assert again.result().output == "yy"
        result = engine.result(10.0)
        assert result.counters["failed"] == 1 and result.counters["loads_disk"] == 2

    asyncio.run(main())
