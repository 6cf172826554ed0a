"""Speed of the engine: function-cache replay, Cluster + Policy, growth with the functions.

CPU time of one thread, so that a busy machine matters little. Building the cluster and reading the
result are part of a replay's time; they are not part of the full engine's.

Units: requests per CPU-second.
"""

from __future__ import annotations

import numpy as np
from omegaconf import DictConfig

from stoker.agents.bench_figure import Figure, cpu_seconds
from stoker.baselines.base import Policy
from stoker.baselines.faascache import FaasCache
from stoker.baselines.hazard import HazardIndex
from stoker.envs.cluster import replay
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster
from stoker.envs.workload import Workload

REQUESTS = 500_000
SIZES_MB = (128.0, 512.0)


def measure(cfg: DictConfig) -> list[Figure]:
    """Measure every case."""
    n, repeats = int(cfg.requests or REQUESTS), int(cfg.repeats)
    return [*_replays(n, repeats), *_full(n, repeats), *_growth(n, repeats)]


def traffic(requests: int, functions: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw Poisson arrivals of Zipf(1) functions that seldom overlap with themselves."""
    rng = np.random.default_rng(seed)
    popularity = 1.0 / np.arange(1, functions + 1)
    return {
        "arrival_s": np.cumsum(rng.exponential(1.0, requests)),
        "function": rng.choice(functions, requests, p=popularity / popularity.sum()),
        "memory_mb": rng.uniform(*SIZES_MB, functions),
        "warm_s": np.full(functions, 0.05),
        "init_s": rng.uniform(0.1, 0.5, functions),
    }


def _replays(n: int, repeats: int) -> list[Figure]:
    """Function-cache replay, with room for all and with half as much room as functions ask for."""
    out = []
    for live, budget in ((10, 5e6), (1500, 2e6)):
        for pressure in (False, True):
            work = traffic(n, live * 2 if pressure else live)
            room_mb = float(work["memory_mb"].sum()) * (0.5 if pressure else 2.0)

            def run(work: dict[str, np.ndarray] = work, room_mb: float = room_mb) -> object:
                return replay.function_cache(
                    **work, capacity_mb=room_mb, policy="greedy_dual", preset="stoker"
                )

            name = f"replay, {live:,} live, {'under pressure' if pressure else 'room for all'}"
            rate = n / cpu_seconds(run, repeats)
            out.append(Figure("engine", name, rate, "requests/s", budget))
    return out


def _full(n: int, repeats: int) -> list[Figure]:
    """Return the speed of Cluster + Policy with traffic statistics on, under pressure."""
    cluster, workload = problem(n, 20)
    big = problem(n, 3000)
    return [
        _figure("full engine, 10 live, faascache", FaasCache(), cluster, workload, repeats, 1e6),
        _figure("full engine, 1,500 live, faascache", FaasCache(), *big, repeats, 1e6),
        _figure("full engine, 10 live, hazard", HazardIndex(), cluster, workload, repeats, None),
        _figure("full engine, 1,500 live, hazard", HazardIndex(), *big, repeats, None),
    ]


def _growth(n: int, repeats: int) -> list[Figure]:
    """Return cost a request of 10,000 functions, as a multiple of 100 functions'."""
    out = []
    for policy, budget in ((FaasCache(), 2.0), (HazardIndex(), None)):
        small, large = (
            _figure("", policy, *problem(n, functions), repeats, None).value
            for functions in (100, 10_000)
        )
        name = f"growth, 10,000 against 100 functions, {type(policy).__name__}"
        out.append(Figure("engine", name, small / large, "x", budget, more_is_better=False))
    return out


def problem(requests: int, functions: int) -> tuple[Cluster, Workload]:
    """Build a cluster with half the memory that all functions ask for, and its traffic."""
    work = traffic(requests, functions)
    room_mb = max(float(work["memory_mb"].sum()) * 0.5, SIZES_MB[1])
    cluster = replay.cache_cluster(work["memory_mb"], work["warm_s"], work["init_s"], room_mb)
    names = tuple(f.name for f in cluster.functions)
    arrival_s = work["arrival_s"]
    horizon_s = float(arrival_s[-1]) + 1.0
    return cluster, Workload(arrival_s, work["function"].astype(np.int32), names, horizon_s)


def _figure(
    name: str,
    policy: Policy,
    cluster: Cluster,
    workload: Workload,
    repeats: int,
    budget: float | None,
) -> Figure:
    def build() -> Simulation:
        sim = Simulation([cluster], [workload], policy.rules, track=True)
        policy.reset(cluster, 1)
        sim.apply(policy.decide(sim.snapshot()))
        return sim

    # Every run needs a fresh simulation, built outside the measured time.
    waiting = [build() for _ in range(repeats + 1)]
    seconds = cpu_seconds(lambda: waiting.pop().run(), repeats)
    return Figure("engine", name, len(workload) / seconds, "requests/s", budget)
