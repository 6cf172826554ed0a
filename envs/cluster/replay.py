"""Replay one trace through one mechanism, in one call.

    r = replay.function_cache(arrival_s, function, memory_mb, warm_s, init_s, capacity_mb)
    r.outcome   # uint8 a request: 0 warm, 1 cold, 2 dropped
    r = replay.llm_replica(arrival_s, prompt_tokens, output_tokens, scheduler="sarathi")
    r.first_token_s, r.completed_s   # times a request

    r = replay.llm_fleet(arrival_s, prompt_tokens, output_tokens, replay.LlmFunction(replicas=16))
    r.replica, r.gpu_busy_s   # who served a request; GPU-seconds a replica

Thin: the first builds a Cluster and runs the same engine as `simulate`; the others run the engines
of an LLM replica (llm/replica.py) and of many (llm/fleet/).
Shapes: N requests, F functions.  Units: seconds, MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.llm.fleet.entry import llm_fleet
from stoker.envs.cluster.llm.fleet.result import LlmFleetReplay
from stoker.envs.cluster.llm.fleet.spec import LlmFunction, ReplicaLoss
from stoker.envs.cluster.llm.replica import llm_replica
from stoker.envs.cluster.llm.result import LlmReplay
from stoker.envs.cluster.presets import preset as rules_of
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.workload.workload import Workload

__all__ = [
    "CacheReplay",
    "LlmFleetReplay",
    "LlmFunction",
    "LlmReplay",
    "ReplicaLoss",
    "cache_cluster",
    "function_cache",
    "llm_fleet",
    "llm_replica",
]

MB_PER_GIB = 1024.0


@dataclass(frozen=True)
class CacheReplay:
    """Outcome of a function-cache replay."""

    outcome: NDArray[np.uint8]
    """0 warm, 1 cold, 2 dropped. Shape: (N,)"""
    start_s: NDArray[np.float64]
    """Shape: (N,)"""
    finish_s: NDArray[np.float64]
    """Shape: (N,)"""
    evictions: int
    """Instances evicted for space, and expired where a TTL is set."""
    clock: float
    """Greedy-dual clock, in ms/MB units of cost over size."""
    mean_instances: float
    """Time average over the replay."""
    mean_running: float
    """Time average of instances in service; start-up counts as service."""


def cache_cluster(
    memory_mb: ArrayLike, warm_s: ArrayLike, init_s: ArrayLike, capacity_mb: float
) -> Cluster:
    """The cluster of a function cache: one device, no weights to move, start-up = init_s."""
    memory, warm, init = (np.asarray(x, np.float64) for x in (memory_mb, warm_s, init_s))
    for name, column in (("memory_mb", memory), ("warm_s", warm), ("init_s", init)):
        bad = np.flatnonzero(~(np.isfinite(column) & (column >= 0.0)))
        if column.ndim != 1 or len(bad):
            raise SpecError(name, column.tolist()[:8], "a finite number >= 0 a function")
    if not len(memory) == len(warm) == len(init):
        raise SpecError("warm_s", len(warm), f"one entry a function ({len(memory)})")
    if not capacity_mb > 0.0:
        raise SpecError("capacity_mb", capacity_mb, "a size > 0")
    specs = tuple(
        Function(str(k), 0.0, m / MB_PER_GIB, runtime_s=i, alpha_s=w)
        for k, (m, w, i) in enumerate(
            zip(memory.tolist(), warm.tolist(), init.tolist(), strict=True)
        )
    )
    return Cluster(Node((Gpu(capacity_mb / MB_PER_GIB),)), specs, drop_oversized=True)


def function_cache(
    arrival_s: ArrayLike,
    function: ArrayLike,
    memory_mb: ArrayLike,
    warm_s: ArrayLike,
    init_s: ArrayLike,
    capacity_mb: float,
    policy: str = "greedy_dual",
    preset: str = "faascache_sim",
    ttl_s: float = 600.0,
    max_instances: int | None = None,
    service_s: ArrayLike | None = None,
) -> CacheReplay:
    """Replay invocations through a keep-alive cache of `capacity_mb`.

    Args:
        arrival_s: ascending arrival times. Shape: (N,)
        function: index of the function called. Shape: (N,)
        memory_mb: size of an instance. Shape: (F,)
        warm_s: service time on a warm instance. Shape: (F,)
        init_s: what a cold start adds. Shape: (F,)
        capacity_mb: memory of the server; inf = no limit.
        policy: greedy_dual | ttl | lru | freq | size | lfu | landlord.
        preset: faascache_sim | simfaas | stoker (see presets.py).
        ttl_s: keep-alive of policy `ttl`.
        max_instances: limit on instances of one function; None = no limit.
        service_s: service times a request instead of warm_s, Shape: (N,); or, Shape: (N, 2), on a
            warm instance and, in place of init + warm, of the request that starts one.

    Raises:
        SpecError: a bad value, with its field and the accepted range.
    """
    arrival = np.asarray(arrival_s, np.float64)
    names = tuple(str(k) for k in range(len(np.atleast_1d(np.asarray(memory_mb)))))
    cluster = cache_cluster(memory_mb, warm_s, init_s, capacity_mb)
    workload, cold = _workload(arrival, np.asarray(function), names, service_s)
    rules = rules_of(preset, policy)
    sim = Simulation([cluster], [workload], rules, track=False)
    if cold is not None:
        sim.state.cold_service[0] = cold
        sim.state.fn["process_s"] = 0.0
        sim.state.point()
    shape = (1, len(names))
    sim.apply(
        Decision(
            keep_alive_s=np.full(shape, ttl_s if policy == "ttl" else np.inf),
            max_instances=None
            if max_instances is None
            else np.full(shape, max_instances, np.int32),
        )
    )
    sim.run()
    return _report(sim)


def _workload(
    arrival: NDArray[np.float64],
    function: NDArray[np.integer],
    names: Sequence[str],
    service_s: ArrayLike | None,
) -> tuple[Workload, NDArray[np.float64] | None]:
    """The requests, and the service times of cold starts where they are given."""
    service = None if service_s is None else np.asarray(service_s, np.float64)
    cold = None
    if service is not None and service.ndim == 2:
        service, cold = np.ascontiguousarray(service[:, 0]), np.ascontiguousarray(service[:, 1])
    end = float(arrival[-1]) if len(arrival) else 1.0
    horizon = float(np.nextafter(end, np.inf)) if end > 0 else 1.0
    return Workload(arrival, function.astype(np.int32), tuple(names), horizon, service), cold


def _report(sim: Simulation) -> CacheReplay:
    result = sim.result()
    row, seen = sim.state.rows[0], result.outcome
    outcome = seen.tier.copy()
    bound = outcome == 255  # still starting at the end: the instance was made for them
    outcome[bound] = 1
    ttl = bool(np.isfinite(sim.state.fn["keep_alive_s"]).any())
    now = max(float(row["now"]), 1e-12)
    fn = sim.state.fn[0]
    held = np.divide(fn["acc_gib_s"], fn["gib"], out=np.zeros(len(fn)), where=fn["gib"] > 0.0)
    served = outcome != 2
    until = np.fmin(np.where(served, seen.finish_s, seen.arrival_s), now)
    running = (until - seen.arrival_s)[served].sum()
    return CacheReplay(
        outcome=outcome,
        start_s=seen.start_s,
        finish_s=seen.finish_s,
        evictions=result.counters["evictions"] + (result.counters["expiries"] if ttl else 0),
        clock=result.clock,
        mean_instances=float(held.sum()) / now,
        mean_running=float(running) / now,
    )
