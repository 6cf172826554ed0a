"""The engine's bill lies above the bound of the best case, whatever goes wrong."""

from dataclasses import replace

import numpy as np
import pytest
from test_bound_below_engine import Whims
from test_bound_below_policies import random_case

from stoker.baselines.bounds.best_case import best_case
from stoker.baselines.bounds.lagrangian import lower_bound
from stoker.envs.cluster.faults import FaultRates, draw
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Link


@pytest.mark.parametrize("drop_usd", [0.0, 5.0])
@pytest.mark.parametrize("seed", range(20))
def test_random_orders_cost_more_than_the_best_case(seed: int, drop_usd: float) -> None:
    cluster, workload = random_case(seed, drop_usd=drop_usd)
    node = replace(cluster.node, disk=Link(4.0))
    cluster = replace(cluster, nodes=(node,) * (1 + seed % 2))
    rng = np.random.default_rng(9000 + seed)
    noise = float(rng.choice([0.0, 0.5]))
    rates = FaultRates(
        failure_every_s=20.0, repair_s=5.0, preemption_every_s=30.0, grace_s=2.0, preempted_s=5.0,
        slow_every_s=10.0, slow_for_s=5.0, load_sigma=noise, service_sigma=noise,
        telemetry_loss=0.2, retry=drop_usd == 0.0,
    )  # fmt: skip
    for _ in range(4):
        faults = draw(rng, cluster, workload.horizon_s, rates)
        lucky = best_case(cluster, workload, faults)
        bound = lower_bound(*lucky, bins=64, iterations=60).total_usd
        policy = Whims(rng, refuses=drop_usd > 0.0)
        cost = simulate(cluster, workload, policy, faults=faults)[0].bill.total_usd
        assert bound <= cost + 1e-6 * (1.0 + cost)


def test_the_best_case_has_every_time_at_its_least() -> None:
    cluster, workload = random_case(3)
    noisy = draw(np.random.default_rng(1), cluster, 1.0, FaultRates(load_sigma=0.3))
    lucky, _ = best_case(cluster, workload, noisy)
    least = noisy.load_factors[0]
    for k in range(len(cluster.functions)):
        for source in ("disk", "host"):
            assert lucky.load_s(k, source) == pytest.approx(least * cluster.load_s(k, source))
    assert best_case(cluster, workload, None)[0] is cluster
