"""What IceBreaker claims, in the settings that we can build.

docs/effects.md has its figures and ours side by side, with what is not reproduced. The Azure
Functions trace of 2019 is used where it is at hand; tests that rest on it alone skip otherwise.
Units: seconds, GiB, dollars.
"""

import dataclasses
import functools
from types import SimpleNamespace

import numpy as np
import pytest
from needs import needs

from stoker.baselines.base import Policy
from stoker.baselines.icebreaker import IceBreaker
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Service
from stoker.envs.workload import azure_functions, locate, synthetic
from stoker.envs.workload.workload import Workload

HOUR_S = 3600.0
D07 = "azure_functions_2019_d07_invocations"
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
