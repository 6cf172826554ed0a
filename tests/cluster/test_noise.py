"""Noise of load and service times, against what its factors and quantiles say.

Units: seconds, GiB.
"""

import numpy as np
import pytest
from by_hand import order
from test_faults import INF, ended, model, start

from stoker.envs.cluster.faults import Faults, lognormal_factors
from stoker.envs.cluster.spec import Cluster, Gpu, Link, Node


def test_loads_and_batches_take_their_factors() -> None:
    # (1 + 4 + 0.5) s x 3 to start; 2 s x 0.5 of service, or 4 s x 0.5 for the batch of three.
    node = Node((Gpu(8.0),), disk=Link(1.0))
    a = model(warmup_s=0.5, alpha_s=1.0, beta_s=1.0, max_batch=3)
    faults = Faults(load_factors=(3.0,), service_factors=(0.5,))
    sim = start(Cluster(node, (a,)), [(0.0, 0), (50.0, 0)] + [(50.5, 0)] * 3, faults)
    order(sim, max_instances=1)
    result = ended(sim)
    assert result.outcome.start_s.tolist() == [16.5, 50.0, 51.0, 51.0, 51.0]
    assert result.outcome.finish_s.tolist() == [17.5, 51.0, 53.0, 53.0, 53.0]
    assert sim.state.rows[0]["load_s"] == 16.5


def test_factors_follow_their_quantiles_and_not_what_else_happens() -> None:
    a = model(alpha_s=1.0)
    factors = (0.5, 1.0, 4.0)
    faults = Faults(load_factors=factors, service_factors=factors, seed=3)
    node = Node((Gpu(8.0),))
    calls = [(10.0 * k, 0) for k in range(900)]
    runs = []
    for keep_s in (INF, 0.0):
        sim = start(Cluster(node, (a,)), calls, faults, until_s=1e5)
        order(sim, keep_alive_s=keep_s)
        seen = ended(sim).outcome
        runs.append(seen.finish_s - seen.start_s)
    assert np.allclose(runs[0], runs[1], atol=1e-9)  # the same luck for both
    # linear between the quantiles: mean (0.75 + 2.5) / 2, half of them below 1
    assert np.mean(runs[0]) == pytest.approx(1.625, abs=0.12)
    assert np.mean(runs[0] <= 1.0 + 1e-9) == pytest.approx(0.5, abs=0.06)
    loads = seen.start_s - np.array([t for t, _ in calls])
    assert np.quantile(loads, [0.0, 0.5, 1.0]) == pytest.approx(factors, abs=0.3)
    assert abs(np.corrcoef(loads, runs[1])[0, 1]) < 0.15


def test_lognormal_quantiles_have_median_one_and_the_spread_asked_for() -> None:
    factors = np.log(lognormal_factors(0.3))
    assert factors[20] == 0.0 and np.allclose(factors, -factors[::-1])
    assert factors.std() == pytest.approx(0.3, rel=0.03)
    assert lognormal_factors(0.0) == ()
