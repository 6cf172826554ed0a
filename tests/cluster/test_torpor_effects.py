"""What Torpor claims, in the settings that we can build.

docs/effects.md has its figures and ours side by side, with what is not reproduced.
Units: seconds, GiB, dollars.
"""

import dataclasses
import functools
import math

import numpy as np
import pytest

from stoker.baselines.base import Policy
from stoker.baselines.torpor import Torpor
from stoker.envs.cluster import profiles
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.outcome import Result
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Function, Link, Node, Rules
from stoker.envs.cluster.startup.pipeswitch import even_s
from stoker.envs.workload import synthetic
from stoker.envs.workload.workload import Workload

HOUR_S = 3600.0
# Torpor, ATC 2025: hundreds of functions on 4 GPUs; cost of GPUs -70 % (users), -65 % (platform).

T4 = profiles.gpu("T4")
CONTEXT_GIB, PCIE_GIB_S, NVLINK_GIB_S = 0.5, 12.0, 44.0
MODELS = ("BERT-base-uncased", "all-MiniLM-L6-v2", "ResNet-50", "ViT-L/16")
SLO_S = 0.1
GROUPS = 10


@functools.cache
def endpoints(n: int, seed: int, *, swapped: bool, pooled: bool) -> tuple[Function, ...]:
    """Models of the published T4 profile, one request at a time; `pooled`: contexts are shared.

    Swapped ones overlap their first batch with the copy, as far as a copy over NVLink lets them.
    """
    drawn = np.random.default_rng(seed).integers(0, len(MODELS), n)
    kinds = [profiles.function(name, "T4", max_batch=1, slo_s=SLO_S) for name in MODELS]
    if swapped:
        for k, f in enumerate(kinds):
            alone_s, copy_s = f.alpha_s + f.beta_s, f.weights_gib / NVLINK_GIB_S
            hidden_s = copy_s + alone_s - even_s(f.weights_gib, alone_s, GROUPS, NVLINK_GIB_S)
            kinds[k] = dataclasses.replace(f, runtime_s=0.0, warmup_s=0.0, overlap_s=hidden_s)
    less = CONTEXT_GIB if pooled else 0.0
    return tuple(
        dataclasses.replace(kinds[k], name=f"f{i}", device_gib=kinds[k].device_gib - less)
        for i, k in enumerate(drawn)
    )


def machine(gpus: int, *, swapped: bool, pooled: bool) -> Node:
    one = dataclasses.replace(
        T4, sharing="exclusive", memory_gib=T4.memory_gib - (CONTEXT_GIB if pooled else 0.0)
    )
    return Node(
        (one,) * gpus,
        host_gib=1024.0 if swapped else 0.0,
        pcie=Link(PCIE_GIB_S),
        loading="pipelined",
        nvlink=Link(NVLINK_GIB_S) if swapped else None,
    )


class Dedicated(Policy):
    """One instance a function, loaded before the first call and kept for good."""

    rules = Rules(placement="best_fit")
    tick_s = math.inf

    def decide(self, snapshot: Snapshot) -> Decision:
        one = np.ones(snapshot.idle.shape, np.int32)
        return Decision(prewarm=one, max_instances=one)


@functools.cache
def minute_calls(n: int, seed: int) -> Workload:
    """An hour in which a function is called five times a minute on average."""
    rng = np.random.default_rng(seed)
    drawn = synthetic.generate(rng, functions=n, hours=1.0, requests_per_s=n / 12.0, zipf=0.9)
    return dataclasses.replace(drawn, service_s=None)


def serve(n: int, seed: int, gpus: int, *, swapped: bool, pooled: bool) -> Result:
    functions = endpoints(n, seed, swapped=swapped, pooled=pooled)
    cluster = Cluster(machine(gpus, swapped=swapped, pooled=pooled), functions)
    policy = Torpor() if swapped else Dedicated()
    return simulate(cluster, minute_calls(n, seed), policy, warmup_s=600.0)[0]


def dedicated_gpus(n: int, seed: int, *, pooled: bool) -> int:
    """Least number of GPUs that hold every function."""
    held = sum(f.device_gib for f in endpoints(n, seed, swapped=False, pooled=pooled))
    gpus = math.ceil(held / machine(1, swapped=False, pooled=pooled).gpus[0].memory_gib)
    while serve(n, seed, gpus, swapped=False, pooled=pooled).counters["evictions"] > 0:
        gpus += 1
    return gpus


@pytest.mark.parametrize("seed", range(5))
def test_e17_four_gpus_serve_what_takes_sixteen_without_swapping(seed: int) -> None:
    # Platform -65 %, users -70 %; 320 functions. Here 4 GPUs in place of 16 or 17 (-75 to -76 %)
    # with more requests in time, with a context of 0.5 GiB each on either side. Users pay for
    # execution and swaps in place of their share of a GPU: -97 %, which is a matter of how busy
    # they are.
    gpus = dedicated_gpus(320, seed, pooled=False)
    ours = serve(320, seed, 4, swapped=True, pooled=False)
    assert ours.slo_attainment > serve(320, seed, gpus, swapped=False, pooled=False).slo_attainment
    assert ours.slo_attainment > 0.97  # here 0.988 to 0.996
    assert 1.0 - 4 / gpus > 0.65
    held = sum(f.device_gib for f in endpoints(320, seed, swapped=False, pooled=False))
    used_s = ours.bill.gpu_busy_s + ours.bill.gpu_loading_s
    assert used_s / (held / T4.memory_gib * HOUR_S) < 0.3


@pytest.mark.parametrize("seed", range(5))
def test_e17_swapping_saves_where_contexts_are_pooled_on_either_side_too(seed: int) -> None:
    # 2 GPUs in place of 5 or 6 (-60 to -67 %), at no less attainment.
    gpus = dedicated_gpus(320, seed, pooled=True)
    ours = serve(320, seed, 2, swapped=True, pooled=True).slo_attainment
    assert 1.0 - 2 / gpus >= 0.6
    assert ours > serve(320, seed, gpus, swapped=False, pooled=True).slo_attainment
