"""Functions of a trace, served by a few real models: clusters of this machine's own figures.

A trace's functions outnumber the models, so each function is a deployment of one of them, drawn at
random. This machine loads its small models far faster than a GPU loads large ones, so time is
compressed until the gaps of the trace stand to these loads as they do to a GPU's, and memory is
priced as if the typical model here were a typical one there.

Units: seconds, GiB, bytes, dollars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from stoker.baselines import search, spaces
from stoker.baselines.registry import POLICIES
from stoker.baselines.search import TRACED_BIN_S
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import Faults
from stoker.envs.cluster.spec import GIB, Cluster, Function, Objective
from stoker.envs.workload import Workload, footprint_gib
from stoker.envs.workload.scale import FOOTPRINT_TTL_S
from stoker.runtime.catalog import Deployment, Model
from stoker.runtime.profile import link_gib_s, profile_cluster, profile_function, residual_factors

TYPICAL_LOAD_S = 4.0
"""Start-up of a model of 8 GiB on a GPU: the scale of `to_gpu.lognormal`."""
TYPICAL_GIB = 8.0
USD_GIB_H = 3.431 / 80.0
"""An A100's price by memory."""
SLO_SLACK_S = 5.0
"""At the traced speed: a request is in time within its service time and this."""
PREDICTIONS = 8
"""Simulated runs, each with noise of its own, that a prediction is the mean of."""
OBJECTIVE = Objective(wait_usd_s=0.01, load_usd_s=0.0025)


@dataclass(frozen=True)
class Deployed:
    """Models on this machine, and what they cost to load and hold.

    Args:
        profile: of `stoker calibrate`.
        models: that the profile knows.
        factor: by which time is compressed; None = so that gaps match the loads measured.
        objective: what the operator pays.
    """

    profile: Mapping[str, Any]
    models: tuple[Model, ...]
    factor: float | None = None
    objective: Objective = OBJECTIVE

    def __post_init__(self) -> None:
        known = self.profile["models"]
        for model in self.models:
            if model.name not in known:
                raise SpecError("profile.models", sorted(known), f"{model.name} among them")

    @cached_property
    def templates(self) -> tuple[Function, ...]:
        """Each model as a function."""
        entries, rate = self.profile["models"], link_gib_s(self.profile)
        return tuple(profile_function(entries[m.name], m.name, rate) for m in self.models)

    @cached_property
    def mean_load_s(self) -> float:
        """Mean over the models of a load from disk, the order's way included."""
        entries = [self.profile["models"][m.name] for m in self.models]
        return float(np.mean([e["load_s"]["disk"]["p50"] + e["order_s"]["p50"] for e in entries]))

    @cached_property
    def compression(self) -> float:
        """By which factor the trace's time is divided."""
        return TYPICAL_LOAD_S / self.mean_load_s if self.factor is None else self.factor

    @property
    def first_bin_s(self) -> float:
        """First bin of the gap histograms, on the compressed clock."""
        return TRACED_BIN_S / self.compression

    @property
    def usd_gib_h(self) -> float:
        """Price of device memory, such that the mean model costs what 8 GiB of an A100 do."""
        mean_gib = float(np.mean([f.device_gib for f in self.templates]))
        return USD_GIB_H * TYPICAL_GIB / mean_gib

    @cached_property
    def batch_s(self) -> float:
        """Mean over the models of a request that finds all loaded, the order's way included."""
        entries = [self.profile["models"][m.name] for m in self.models]
        return float(np.mean([e["alpha_s"] + e["beta_s"] + e["order_s"]["p50"] for e in entries]))

    def noise(self, seed: int, found: Deployed | None = None) -> list[Faults]:
        """Loads and batches that spread as they did when they were measured, over and over.

        Args:
            seed: of the first run.
            found: the machine as it was found at another time, which is then what is drawn: its
                spread, its loads and batches so much longer or shorter. None = as this one.
        """
        found = found or self
        loads, batches = residual_factors(found.profile)
        load, batch = found.mean_load_s / self.mean_load_s, found.batch_s / self.batch_s
        loads, batches = tuple(load * f for f in loads), tuple(batch * f for f in batches)
        return [
            Faults(load_factors=loads, service_factors=batches, seed=seed + k)
            for k in range(PREDICTIONS)
        ]

    def draw(self, names: Sequence[str], rng: np.random.Generator) -> tuple[Deployment, ...]:
        """Serve each name by one of the models: equal shares, in random order."""
        rounds = -(-len(names) // len(self.models))
        dealt = rng.permutation(np.tile(np.arange(len(self.models)), rounds)[: len(names)])
        return tuple(
            Deployment(name, self.models[k]) for name, k in zip(names, dealt.tolist(), strict=True)
        )

    def cluster(
        self, deployments: Sequence[Deployment], workload: Workload, ratio: float
    ) -> Cluster:
        """Build one device that holds `ratio` times what a keep-alive of a traced hour holds.

        Args:
            deployments: of the workload's functions, in its order.
            workload: on the compressed clock.
            ratio: device memory / that footprint.
        """
        draft = self._build(deployments, 2**40)
        ttl_s = FOOTPRINT_TTL_S / self.compression
        wanted = ratio * footprint_gib(workload, draft.functions, ttl_s)
        largest = max(f.device_gib for f in draft.functions)
        return self._build(deployments, round(max(wanted, largest) * GIB), f", ratio {ratio:g}")

    def _build(
        self, deployments: Sequence[Deployment], device_bytes: int, said: str = ""
    ) -> Cluster:
        made = profile_cluster(
            self.profile,
            deployments,
            device_bytes=[device_bytes],
            price_usd_h=self.usd_gib_h * device_bytes / GIB,
            objective=self.objective,
            first_bin_s=self.first_bin_s,
        )
        slack_s = SLO_SLACK_S / self.compression
        functions = tuple(replace(f, slo_s=f.alpha_s + f.beta_s + slack_s) for f in made.functions)
        profile = f"{made.profile}, time compressed {self.compression:.4g}x{said}"
        return replace(made, functions=functions, profile=profile)


def on_clock(node: Mapping[str, Any], compression: float) -> dict[str, Any]:
    """Divide the times of a published policy's node, given in the trace's time, by a factor."""
    name = next((n for n, target in POLICIES.items() if target == node["_target_"]), None)
    if name not in spaces.SPACES:
        return dict(node)
    published = search.published(name, 1.0 / compression)
    space, out = spaces.SPACES[name], dict(node)
    for key, value in published.items():
        axis = space.get(key)
        if isinstance(axis, spaces.Range) and axis.time and key in out:
            out[key] = float(out[key]) / compression
        elif axis is None:
            out.setdefault(key, value)
    return out
