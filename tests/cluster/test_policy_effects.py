"""What IceBreaker, Torpor and the hybrid histogram claim, in the settings that we can build.

docs/effects.md has their figures and ours side by side, with what is not reproduced. The Azure
Functions trace of 2019 is used where it is at hand; tests that rest on it alone skip otherwise.
Units: seconds, GiB, dollars.
"""

import dataclasses
import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from stoker.baselines.base import Policy
from stoker.baselines.hybrid_histogram import HybridHistogram
from stoker.baselines.icebreaker import IceBreaker
from stoker.baselines.torpor import Torpor
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster import profiles
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.outcome import Result
from stoker.envs.cluster.simulation import Simulation, simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Rules, Service
from stoker.envs.cluster.startup.pipeswitch import even_s
from stoker.envs.workload import azure_functions, locate, synthetic
from stoker.envs.workload.workload import Workload

HOUR_S = 3600.0
D07, DAY = "azure_functions_2019_d07_invocations", "azure_functions_2019_sample"


def needs(trace: str) -> pytest.MarkDecorator:
    reason = f"trace {trace} is not on this machine (shared/data/traces beside the checkout)"
    return pytest.mark.skipif(locate(trace) is None, reason=f"{reason} or STOKER_DATA)")


# IceBreaker, ASPLOS 2022: 45 % less keep-alive cost, 27 % less service time. The twelve functions,
# their times on the dear and the cheap server, and the prices are those of the public evaluator.

DEAR_S = np.array([3.03, 0.72, 2.985, 0.7, 3.04, 0.71, 2.99, 0.71, 3.02, 0.72, 3.03, 0.69])
CHEAP_S = 1.16 * DEAR_S
LONG = DEAR_S > 1.0
COLD_S, CHEAP_COLD_S = np.where(LONG, 2.31, 0.54), np.where(LONG, 2.54, 0.60)
TWELVE_GIB = np.array([507, 499, 177, 173, 124, 125, 505, 496, 178, 172, 122, 126]) / 1024
USD_GIB_H = {"dear": 0.01475, "cheap": 0.0084}


def calls_of(source: str, seed: int) -> Workload:
    """Eight hours of 347 functions, the busiest cut to four calls a minute."""
    rng = np.random.default_rng(seed)
    if source == "generator":
        return dataclasses.replace(
            synthetic.generate(rng, functions=347, hours=8.0, requests_per_s=3.0), service_s=None
        )
    path = locate(D07)
    if path is None:
        pytest.skip(f"trace {D07} is not on this machine")
    return azure_functions.load(path, rng=rng, max_per_minute=4)


def servers(names: tuple[str, ...], seed: int, dear_gib: float, cheap_gib: float) -> Cluster:
    """Each function is one of the twelve; start-up is that of the dear server."""
    kinds = np.random.default_rng(seed).integers(0, 12, len(names))
    functions = tuple(
        Function(
            name,
            0.0,
            float(TWELVE_GIB[k]),
            runtime_s=float(COLD_S[k]),
            services=(Service("dear", float(DEAR_S[k])), Service("cheap", float(CHEAP_S[k]))),
        )
        for name, k in zip(names, kinds, strict=True)
    )
    sizes = {"dear": dear_gib, "cheap": cheap_gib}
    gpus = [Gpu(gib, USD_GIB_H[k] * gib, kind=k) for k, gib in sizes.items() if gib > 0.0]
    return Cluster(tuple(Node((gpu,)) for gpu in gpus), functions)


def keep_alive_and_service(cluster: Cluster, load: Workload, policy: Policy) -> tuple[float, float]:
    """Dollars for memory while nothing runs in it, and mean seconds from arrival to completion."""
    result = simulate(cluster, load, policy)[0]
    out = result.outcome
    done = np.isfinite(out.finish_s)
    f, run_s = out.function[done], (out.finish_s - out.start_s)[done]
    dear_s = np.array([f.service("dear")[0] for f in cluster.functions])
    gib = np.array([f.device_gib for f in cluster.functions])
    usd_gib_h = np.where(run_s < 1.08 * dear_s[f], USD_GIB_H["dear"], USD_GIB_H["cheap"])
    running_usd = float((run_s * gib[f] * usd_gib_h).sum()) / HOUR_S
    return result.bill.rent_usd - running_usd, float(np.nanmean(out.latency_s))


@functools.cache
def icebreaker_changes(
    source: str, seed: int, dear_gib: float, share: float, variant: str = "paper"
) -> tuple[float, float]:
    """Change of keep-alive cost and of service time against ten minutes on dear servers alone.

    The dear memory is kept to a share; the rest of its price buys cheap memory.
    """
    load = calls_of(source, seed)
    cheap_gib = (1.0 - share) * dear_gib * USD_GIB_H["dear"] / USD_GIB_H["cheap"]
    mixed = servers(load.names, seed, share * dear_gib, cheap_gib)
    ours = keep_alive_and_service(mixed, load, IceBreaker(variant))
    alike = servers(load.names, seed, dear_gib, 0.0)
    theirs = keep_alive_and_service(alike, load, FixedTtl(600.0))
    return ours[0] / theirs[0] - 1.0, ours[1] / theirs[1] - 1.0


def evaluator_changes(counts: np.ndarray, seed: int, variant: str) -> tuple[float, float]:
    """The same two by the arithmetic of the public evaluator, without an engine.

    A minute's calls up to the number forecast are warm, the others cold. Ten minutes' keep-alive
    there means: every ten minutes keep as many as that minute's calls, on dear servers.
    """
    names = tuple(str(k) for k in range(len(counts)))
    cluster = servers(names, seed, 32.0, 32.0)
    k = np.random.default_rng(seed).integers(0, 12, len(names))
    policy = IceBreaker(variant)
    policy.reset(cluster, 1)
    none = np.zeros((1, len(names)), np.int32)
    ours, theirs = np.zeros(2), np.zeros(2)
    before = np.cumsum(counts, axis=1) - counts
    for minute, real in enumerate(counts.T):
        seen = SimpleNamespace(arrivals=before[None, :, minute], idle=none, busy=none, loading=none)
        said = policy.decide(seen)  # type: ignore[arg-type]
        assert said.prewarm is not None and said.gpu_class is not None
        dear = said.gpu_class[0] == 0
        kept = np.where(said.prewarm[0] > 0, policy._foreseen[0, :, -1], 0.0)
        if minute % 10 == 0:
            same = real
        if minute < policy.window:
            continue
        usd = np.where(dear, USD_GIB_H["dear"], USD_GIB_H["cheap"])
        cold = np.maximum(real - kept, 0.0) * np.where(dear, COLD_S[k], CHEAP_COLD_S[k])
        run = real * np.where(dear, DEAR_S[k], CHEAP_S[k])
        ours += (kept * TWELVE_GIB[k] * usd).sum() / 60.0, (run + cold).sum()
        cold = np.maximum(real - same, 0.0) * COLD_S[k]
        usd_min = (same * TWELVE_GIB[k]).sum() * USD_GIB_H["dear"] / 60.0
        theirs += usd_min, (real * DEAR_S[k] + cold).sum()
    change = ours / theirs - 1.0
    return float(change[0]), float(change[1])


@pytest.mark.parametrize("source", ["azure", "generator"])
@pytest.mark.parametrize(("dear_gib", "share"), [(10_000.0, 0.5), (25.0, 0.3)])
def test_e13_icebreaker_spends_less_on_keeping_alive(
    source: str, dear_gib: float, share: float
) -> None:
    # Paper: 45 % less. Here, over five seeds: 79 to 88 % less with ample memory, 48 to 54 % where
    # memory of equal price is short.
    assert icebreaker_changes(source, 0, dear_gib, share)[0] < -0.35


def test_e13_service_time_is_not_reproduced() -> None:
    # Paper: 27 % less. With ample memory ten minutes leave hardly a cold start to save, and the
    # cheap servers are slower: here 35 to 42 % more; where memory is short 5 to 9 % more.
    assert icebreaker_changes("generator", 0, 10_000.0, 0.5)[1] > 0.1
    assert -0.1 < icebreaker_changes("generator", 0, 25.0, 0.3)[1] < 0.2


@needs(D07)
@pytest.mark.parametrize("variant", ["paper", "public"])
def test_e13_by_the_arithmetic_of_the_public_evaluator(variant: str) -> None:
    # Keep-alive 33 to 43 % less (paper: 45), service time 4 to 17 % more (paper: 27 % less), over
    # five seeds and with the busiest functions whole or cut to four calls a minute.
    path = locate(D07)
    assert path is not None
    counts = np.minimum(azure_functions.read_counts(path).counts, 4)
    cost, service = evaluator_changes(counts, 0, variant)
    assert cost < -0.25
    assert service > 0.0


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


# Hybrid histogram, ATC 2020.


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
