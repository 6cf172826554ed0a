"""Time and tightness of the Lagrangian bound on synthetic traffic.

Units: seconds, requests.
"""

from __future__ import annotations

import time

import numpy as np

from stoker.baselines.bounds.lagrangian import lower_bound
from stoker.baselines.bounds.linear_program import solve
from stoker.baselines.bounds.relaxation import relax
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Objective
from stoker.envs.workload import Workload


def synthetic(
    requests: int,
    *,
    functions: int = 300,
    memory_gib: float = 160.0,
    service_s: float = 0.3,
    concurrency: int = 8,
    rate_hz: float = 1.0,
    seed: int = 1,
) -> tuple[Cluster, Workload]:
    """Zipf(1.1) popularity, Gamma(0.3) gaps, log-normal sizes of 0.5-40 GiB."""
    rng = np.random.default_rng(seed)
    sizes = np.clip(rng.lognormal(np.log(8.0), 1.0, functions), 0.5, 40.0)
    table = tuple(
        Function(
            f"f{i}",
            float(size),
            float(size),
            runtime_s=2.0,
            load_gib_s=2.0,
            alpha_s=service_s,
            concurrency=concurrency,
        )
        for i, size in enumerate(sizes)
    )
    gpus = max(round(memory_gib / 80.0), 1)
    node = Node((Gpu(memory_gib / gpus, 2.0),) * gpus, pcie=Link(16.0))
    weights = 1.0 / np.arange(1, functions + 1) ** 1.1
    rank = rng.choice(functions, requests, p=weights / weights.sum())
    arrival_s = np.cumsum(rng.gamma(0.3, 1.0 / 0.3, requests)) / rate_hz
    workload = Workload(
        arrival_s,
        rng.permutation(functions)[rank].astype(np.int32),
        tuple(f.name for f in table),
        float(arrival_s[-1]) + 60.0,
        source=f"zipf-gamma seed {seed}",
    )
    return Cluster(node, table, Objective(1.0, 0.25)), workload


def bench(requests: int = 1_000_000, *, exact: int = 2_000) -> dict[str, float]:
    """Measure the bound at two sizes.

    Args:
        requests: size of the timed case.
        exact: size of the case that is also solved as a linear program.

    Returns:
        Requests, seconds and requests a second of the timed case (compiled code warm), and the
        relative distance to the linear program with the seconds that one took.
    """
    cluster, workload = synthetic(exact)
    small = lower_bound(cluster, workload, bins=512)
    began = time.perf_counter()
    optimum = solve(relax(cluster, workload, bins=512))
    program_s = time.perf_counter() - began
    cluster, workload = synthetic(requests)
    began = time.perf_counter()
    lower_bound(cluster, workload)
    seconds = time.perf_counter() - began
    return {
        "requests": float(requests),
        "seconds": seconds,
        "requests_s": requests / seconds,
        "gap_to_program": 1.0 - small.total_usd / optimum.total_usd,
        "program_requests": float(exact),
        "program_s": program_s,
    }
