"""The engine's bill lies above the bound, whatever the rules and standing orders."""

import math
from dataclasses import replace

import numpy as np
import pytest
from test_bound_below_policies import random_case

from stoker.baselines.base import Policy
from stoker.baselines.bounds.lagrangian import lower_bound
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Rules


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
