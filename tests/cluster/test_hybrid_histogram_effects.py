"""What the hybrid histogram (ATC 2020) claims, in the settings that we can build.

docs/effects.md has its figures and ours side by side, with what is not reproduced. The Azure
Functions trace of 2019 is used where it is at hand; tests that rest on it alone skip otherwise.
Units: seconds, GiB, dollars.
"""

import functools

import numpy as np
from needs import needs

from stoker.baselines.base import Policy
from stoker.baselines.hybrid_histogram import HybridHistogram
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.workload import azure_functions, locate
from stoker.envs.workload.workload import Workload

DAY = "azure_functions_2019_sample"


@functools.cache
def days(seed: int, copies: int) -> Workload:
    """The day of 1,250 functions over and over, its calls at other seconds of their minutes."""
    path = locate(DAY)
    assert path is not None
    counts = np.minimum(np.tile(azure_functions.read_counts(path).counts, copies), 1)
    arrival_s, function = azure_functions.spread(counts, np.random.default_rng(seed))
    names = tuple(str(k) for k in range(len(counts)))
    return Workload(arrival_s, function, names, 60.0 * counts.shape[1])


def cold_share_and_memory(load: Workload, policy: Policy, from_s: float) -> tuple[float, float]:
    """Cold starts of the third-quartile function in percent, and GiB-seconds held, from a time on.

    As in the paper every function takes the same memory and no time to run, and one instance of
    it serves all its calls.
    """
    functions = tuple(Function(n, 0.0, 1.0, runtime_s=1e-3, concurrency=64) for n in load.names)
    cluster = Cluster(Node((Gpu(2.0 * len(functions)),)), functions)
    sim = Simulation([cluster], [load], policy.rules, track=policy.rules.plan != "decision")
    policy.reset(cluster, 1)
    sim.apply(policy.decide(sim.snapshot()))
    sim.run(from_s)
    before = sim.result().bill.device_gib_s
    sim.run()
    result = sim.result()
    out = result.outcome
    late = out.arrival_s >= from_s
    calls = np.bincount(out.function[late], minlength=len(functions))
    cold = np.bincount(out.function[late & (out.tier == 1)], minlength=len(functions))
    share = 100.0 * cold[calls > 0] / calls[calls > 0]
    return float(np.percentile(share, 75)), result.bill.device_gib_s - before


@needs(DAY)
def test_e18_ten_minutes_have_more_cold_starts_than_the_histogram_but_less_memory() -> None:
    # Paper: 2.5 times the cold starts of the third-quartile function at equal memory. Here the day
    # four times over, the first one left out: 3.0 times at 0.68 of the memory. A fixed time of
    # equal memory, by interpolation 79 minutes, has 1.56 times. (The single day, of which the
    # histograms fill the first half: 1.6 times, and 1.0 at equal memory.)
    load, from_s = days(0, 4), 86_400.0
    cold, held = cold_share_and_memory(load, HybridHistogram(), from_s)
    fixed = [cold_share_and_memory(load, FixedTtl(60.0 * m), from_s) for m in (10, 60, 90)]
    assert fixed[0][0] > 2.0 * cold
    assert fixed[0][1] < 0.8 * held
    assert fixed[1][1] < held < fixed[2][1]
    equal = np.interp(held, [m for _, m in fixed], [c for c, _ in fixed])
    assert equal > 1.25 * cold
