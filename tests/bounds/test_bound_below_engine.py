"""The engine's bill lies above the bound, whatever the rules and standing orders."""

import math
from dataclasses import replace

import numpy as np
import pytest
from test_bound_below_policies import random_case

from stoker.baselines.base import Policy
from stoker.baselines.bounds.intervals import function_costs
from stoker.baselines.bounds.lagrangian import lower_bound
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Rules


class Whims(Policy):
    """Orders drawn anew at every tick."""

    def __init__(self, rng: np.random.Generator, *, refuses: bool) -> None:
        self.rng = rng
        self.tick_s = float(rng.choice([1.0, 7.0, 60.0]))
        eviction = str(rng.choice(["lru", "greedy_dual", "score"]))
        if refuses:
            self.rules = Rules(scale_out="per_request", overload="drop", eviction=eviction)
        else:
            self.rules = Rules(eviction=eviction)

    def decide(self, snapshot: Snapshot) -> Decision:
        shape, rng = snapshot.queued.shape, self.rng
        return Decision(
            keep_alive_s=rng.choice([0.0, 2.0, 30.0, np.inf], shape),
            host_keep_alive_s=rng.choice([0.0, 10.0, np.inf], shape),
            prewarm=rng.choice([0, 0, 1], shape).astype(np.int32),
            prewarm_host=rng.choice([0, 1], shape).astype(np.int32),
            prewarm_after_s=rng.choice([1.0, 8.0, np.inf], shape),
            prewarm_keep_s=rng.choice([1.0, 10.0], shape),
            eviction_score=rng.random(shape),
            batch_wait_s=rng.choice([0.0, 1.0], shape),
            min_batch=rng.choice([1, 2], shape).astype(np.int32),
            runtime_keep_alive_s=rng.choice([0.0, 20.0, np.inf], shape),
            sandbox_keep_alive_s=rng.choice([0.0, 40.0], shape),
            max_instances=rng.choice([1, 3, 100], shape).astype(np.int32),
        )


def with_small_disks(cluster: Cluster, rng: np.random.Generator) -> Cluster:
    """The cluster with a disk that may hold little, behind a network slower or faster than it."""
    node = replace(
        cluster.node, disk=Link(float(rng.choice([0.5, 4.0]))),
        network=Link(float(rng.choice([1.0, 8.0]))), disk_gib=float(rng.choice([0.0, 2.0, 5.0])),
        loading=str(rng.choice(["sequential", "pipelined"])),
        demotion=str(rng.choice(["instant", "copy"])),
    )  # fmt: skip
    return replace(cluster, nodes=node)


@pytest.mark.parametrize("seed", range(25))
def test_random_orders_cost_more_where_weights_come_over_a_network(seed: int) -> None:
    rng = np.random.default_rng(7000 + seed)
    cluster, workload = random_case(seed, drop_usd=20.0 * (seed % 2))
    cluster = with_small_disks(cluster, rng)
    bound = lower_bound(cluster, workload, bins=64, iterations=60).total_usd
    for _ in range(4):
        policy = Whims(rng, refuses=bool(seed % 2))
        cost = simulate(cluster, workload, policy)[0].bill.total_usd
        assert bound <= cost + 1e-6 * (1.0 + cost)


@pytest.mark.parametrize("drop_usd", [0.0, 0.5, 20.0])
@pytest.mark.parametrize("seed", range(25))
def test_random_orders_cost_more(seed: int, drop_usd: float) -> None:
    cluster, workload = random_case(seed, drop_usd=drop_usd)
    bound = lower_bound(cluster, workload, bins=64, iterations=60).total_usd
    rng = np.random.default_rng(5000 + seed)
    for _ in range(6):
        policy = Whims(rng, refuses=drop_usd > 0.0)
        cost = simulate(cluster, workload, policy)[0].bill.total_usd
        assert bound <= cost + 1e-6 * (1.0 + cost)


@pytest.mark.parametrize("sharing", ["processor", "excess"])
@pytest.mark.parametrize("seed", range(200, 208))
def test_random_orders_cost_more_where_batches_slow_each_other(seed: int, sharing: str) -> None:
    cluster, workload = random_case(seed, drop_usd=20.0)
    shared = {"sharing": "processor"}
    if sharing == "excess":
        shared = {"sharing": "spatial", "interference": "excess"}
    gpus = tuple(replace(gpu, **shared) for gpu in cluster.gpus)
    functions = tuple(
        replace(f, gpu_fraction=0.2, compute_util=0.7, memory_util=0.2) for f in cluster.functions
    )
    cluster = replace(cluster, nodes=replace(cluster.node, gpus=gpus), functions=functions)
    bound = lower_bound(cluster, workload, bins=64, iterations=60).total_usd
    rng = np.random.default_rng(9000 + seed)
    for refuses in (False, True):
        cost = simulate(cluster, workload, Whims(rng, refuses=refuses))[0].bill.total_usd
        assert bound <= cost + 1e-6 * (1.0 + cost)


def spanning(cluster: Cluster, rng: np.random.Generator) -> Cluster:
    """The same functions, some over two or three GPUs, on one node or two of three or four."""
    gpus = (cluster.gpus[0],) * int(rng.integers(3, 5))
    node = replace(cluster.node, gpus=gpus, loading=str(rng.choice(["sequential", "pipelined"])))
    functions = tuple(
        replace(f, gpus=k, weights_gib=k * f.weights_gib, device_gib=k * f.device_gib)
        for f, k in zip(cluster.functions, rng.integers(1, 4, 3).tolist(), strict=False)
    )
    return replace(cluster, nodes=(node,) * int(rng.integers(1, 3)), functions=functions)


@pytest.mark.parametrize("drop_usd", [0.0, 20.0])
@pytest.mark.parametrize("seed", range(100, 120))
def test_random_orders_cost_more_where_functions_span_gpus(seed: int, drop_usd: float) -> None:
    cluster, workload = random_case(seed, drop_usd=drop_usd)
    rng = np.random.default_rng(7000 + seed)
    cluster = spanning(cluster, rng)
    bound = lower_bound(cluster, workload, bins=64, iterations=60).total_usd
    for _ in range(6):
        policy = Whims(rng, refuses=drop_usd > 0.0)
        cost = simulate(cluster, workload, policy)[0].bill.total_usd
        assert bound <= cost + 1e-6 * (1.0 + cost)


def test_the_bound_counts_all_bytes_and_the_link_of_each_gpu() -> None:
    # 8 GiB over a disk of 4, then 8 / 4 over each PCIe link of 1; a peer GPU is no source.
    node = Node((Gpu(8.0),) * 4, 64.0, disk=Link(4.0), pcie=Link(1.0), nvlink=Link(64.0))
    costs = function_costs(Cluster(node, (Function("a", 8.0, 12.0, gpus=4),)))
    assert (costs.size_gib[0], costs.load_s[0], costs.host_load_s[0]) == (12.0, 4.0, 2.0)


def layered(cluster: Cluster, runtime_gib: float, sandbox_gib: float, lend_s: float) -> Cluster:
    """The cluster with layers of such sizes and lenders, and host memory for the layers."""
    functions = tuple(
        replace(
            f, runtime="r", sandbox_s=2.0, runtime_gib=runtime_gib, sandbox_gib=sandbox_gib,
            lend_after_s=lend_s, lent_s=0.25,
        )
        for f in cluster.functions
    )  # fmt: skip
    nodes = tuple(replace(n, host_gib=max(n.host_gib, 4.0)) for n in cluster.all_nodes)
    return replace(cluster, nodes=nodes, functions=functions)


@pytest.mark.parametrize(
    ("layers", "counter"),
    [((1.0, 0.5, math.inf), "layers_runtime"), ((0.0, 0.5, math.inf), "layers_sandbox"),
     ((0.0, 0.0, 3.0), "lent")],
)  # fmt: skip
def test_parked_and_lent_processes_do_not_undercut_the_bound(
    layers: tuple[float, float, float], counter: str
) -> None:
    used = 0
    for seed in range(8):
        cluster, workload = random_case(seed, drop_usd=0.0)
        cluster = layered(cluster, *layers)
        bound = lower_bound(cluster, workload, bins=64, iterations=60).total_usd
        rng = np.random.default_rng(6000 + seed)
        for _ in range(4):
            result = simulate(cluster, workload, Whims(rng, refuses=False))[0]
            used += result.counters[counter]
            assert bound <= result.bill.total_usd * (1.0 + 1e-6) + 1e-6
    assert used > 10
