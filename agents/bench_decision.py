"""Latency of an exported policy on one thread: the bundle as the runtime loads it.

Without `bundle` an untrained policy of the usual size is exported first.  Units: milliseconds.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from stoker.agents.bench_figure import Figure
from stoker.baselines.bundle import BundlePolicy
from stoker.baselines.hazard import HazardIndex
from stoker.envs.cluster.observe import K

CALLS = 1000
BUDGET_MS = {1_000: 1.0, 10_000: 10.0}


def measure(cfg: DictConfig) -> list[Figure]:
    """Measure the P99 of one call for 1,000 and for 10,000 functions at once."""
    if cfg.bundle is not None:
        return [_figure(BundlePolicy(cfg.bundle), n, ms) for n, ms in BUDGET_MS.items()]
    with tempfile.TemporaryDirectory() as folder:
        policy = BundlePolicy(_untrained(Path(folder)))
        return [_figure(policy, n, ms) for n, ms in BUDGET_MS.items()]


def _figure(policy: BundlePolicy, functions: int, budget_ms: float) -> Figure:
    observation = np.random.default_rng(0).normal(size=(functions, K)).astype(np.float32)
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        policy.act(observation)
        taken.append(1000.0 * (time.perf_counter() - began))
    name = f"P99 of a decision for {functions:,} functions"
    note = f"median {np.median(taken):.3f} ms"
    return Figure("decision", name, float(np.percentile(taken, 99)), "ms", budget_ms, False, note)


def _untrained(folder: Path) -> Path:
    from torch import nn

    from stoker.agents.export import write_bundle
    from stoker.agents.networks import Forecast, Greedy
    from stoker.envs.function_view import MULTIPLIERS, VARIANTS

    actions = len(MULTIPLIERS) * VARIANTS
    layers = (nn.Linear(K, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, actions))
    observations = np.random.default_rng(0).normal(size=(1000, K)).astype(np.float32)
    module = Greedy(Forecast(), nn.Sequential(*layers), 1.0)
    write_bundle(folder, module, observations, HazardIndex().rules, 3.0, {"untrained": True})
    return folder
