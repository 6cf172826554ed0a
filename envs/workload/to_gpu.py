"""From traces to GPUs: give every function of a CPU platform's trace a model on a GPU.

Two mappings, both drawn from a generator and both named in `MAPPING_VERSION`:

- `catalogue`: models drawn from `models.yaml`, the longest-running function gets the model with
  the most active parameters, and so on by rank;
- `lognormal`: sizes lognormal (median 8 GiB, sigma 1) within 1-40 GiB; start-up = lognormal
  runtime (median 2 s, sigma 0.6) + size over a rate that is log-uniform in 1-20 GiB/s.

A function's p(1) is its mean service time in the workload; where the workload has none it is drawn
from a published marginal. Both stay within 0.05-20 s.

Shapes: F functions, K models.  Units: seconds, GiB, GiB/s, dollars per hour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import GIB, Function, Gpu, Link, Node
from stoker.envs.workload import marginals
from stoker.envs.workload.workload import Workload

MAPPING_VERSION = "gpu-map-1"
SERVICE_RANGE_S = (0.05, 20.0)
SIZE_MEDIAN_GIB, SIZE_SIGMA, SIZE_RANGE_GIB = 8.0, 1.0, (1.0, 40.0)
RUNTIME_MEDIAN_S, RUNTIME_SIGMA = 2.0, 0.6
LOAD_RANGE_GIB_S = (1.0, 20.0)
UNLIMITED = 1024
"""Concurrency of an instance that never queues: one instance a function carries all its load."""


@dataclass(frozen=True)
class Model:
    """One entry of the catalogue."""

    name: str
    kind: str
    params: int
    active_params: int
    """Parameters that one token or image passes through."""
    weight_bytes: int
    kv_bytes: int
    """Key-value cache of one token; 0 = none."""
    source: str


@cache
def _catalogue() -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    text = Path(__file__).with_name("models.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def models() -> tuple[Model, ...]:
    """Return the catalogue."""
    return tuple(Model(**entry) for entry in _catalogue()["models"])


def profile(variant: str) -> str:
    """Name a mapping with its version, for `Cluster.profile`."""
    if variant not in ("catalogue", "lognormal"):
        raise SpecError("variant", variant, "catalogue | lognormal")
    return f"{MAPPING_VERSION}/{variant}"


def lognormal(
    workload: Workload, rng: np.random.Generator, *, concurrency: int = UNLIMITED
) -> tuple[Function, ...]:
    """Draw sizes and start-up times independently of the traffic."""
    count = len(workload.names)
    sizes_gib = rng.lognormal(math.log(SIZE_MEDIAN_GIB), SIZE_SIGMA, count).clip(*SIZE_RANGE_GIB)
    runtimes_s = rng.lognormal(math.log(RUNTIME_MEDIAN_S), RUNTIME_SIGMA, count)
    slowest, fastest = LOAD_RANGE_GIB_S
    rates_gib_s = np.exp(rng.uniform(math.log(slowest), math.log(fastest), count))
    durations_s = mean_service_s(workload, rng)
    return tuple(
        Function(
            name=name,
            weights_gib=size,
            device_gib=size,
            runtime_s=runtime,
            load_gib_s=rate,
            alpha_s=duration,
            concurrency=concurrency,
        )
        for name, size, runtime, rate, duration in zip(
            workload.names,
            sizes_gib.tolist(),
            runtimes_s.tolist(),
            rates_gib_s.tolist(),
            durations_s.tolist(),
            strict=True,
        )
    )


def catalogue(
    workload: Workload,
    rng: np.random.Generator,
    *,
    largest_gib: float = 80.0,
    context_gib: float = 0.5,
    cache_tokens: int = 8192,
    storage: str = "safetensors",
    runtime_s: float = RUNTIME_MEDIAN_S,
    concurrency: int = UNLIMITED,
) -> tuple[Function, ...]:
    """Map functions to models of the catalogue by rank of duration.

    Args:
        workload: the traffic; service times give the ranks.
        rng: draws the models, and durations the workload lacks.
        largest_gib: leave out models that need more than this on the device.
        context_gib: device memory of an instance besides weights and cache.
        cache_tokens: key-value cache of an instance, for models that have one.
        storage: "safetensors" or "sllm", the format whose measured rate bounds a load.
        runtime_s: process, framework and device context.
        concurrency: batches in flight on one instance.
    """
    rates: dict[str, float] = _catalogue()["load_gib_s"]
    if storage not in rates:
        raise SpecError("storage", storage, " | ".join(rates))
    fitting = _fitting(largest_gib, context_gib, cache_tokens)
    durations_s = mean_service_s(workload, rng)
    drawn = np.sort(rng.integers(len(fitting), size=len(durations_s)))
    choice = np.empty_like(drawn)
    # Ties of duration (many sit on the clip) are broken at random, not by place in the file.
    choice[np.lexsort((rng.random(len(durations_s)), durations_s))] = drawn
    return tuple(
        Function(
            name=name,
            weights_gib=fitting[k][0].weight_bytes / GIB,
            device_gib=fitting[k][1],
            runtime_s=runtime_s,
            load_gib_s=rates[storage],
            alpha_s=duration,
            concurrency=concurrency,
        )
        for name, k, duration in zip(
            workload.names, choice.tolist(), durations_s.tolist(), strict=True
        )
    )


def _fitting(
    largest_gib: float, context_gib: float, cache_tokens: int
) -> list[tuple[Model, float]]:
    """List models that fit, with the GiB they hold, by ascending active parameters."""
    for name, value in (("context_gib", context_gib), ("cache_tokens", cache_tokens)):
        if not (math.isfinite(value) and value >= 0.0):
            raise SpecError(name, value, "finite, >= 0")
    held = [(m, (m.weight_bytes + m.kv_bytes * cache_tokens) / GIB + context_gib) for m in models()]
    fitting = [(m, size_gib) for m, size_gib in held if size_gib <= largest_gib]
    if not fitting:
        raise SpecError("largest_gib", largest_gib, f">= {min(size for _, size in held):.2f}")
    return sorted(fitting, key=lambda entry: entry[0].active_params)


def mean_service_s(workload: Workload, rng: np.random.Generator) -> NDArray[np.float64]:
    """Average each function's service time, drawing what the workload lacks. Shape: (F,)."""
    count = len(workload.names)
    durations_s = marginals.durations_s(rng, count, *SERVICE_RANGE_S)
    if workload.service_s is None:
        return durations_s
    requests = np.bincount(workload.function, minlength=count)
    total_s = np.bincount(workload.function, weights=workload.service_s, minlength=count)
    np.divide(total_s, requests, out=durations_s, where=requests > 0)
    return durations_s.clip(*SERVICE_RANGE_S)


def node(
    device_gib: float,
    *,
    gpu: str = "A100-80GB-SXM",
    pooled: bool = True,
    gpus: int = 1,
    host_gib: float = 0.0,
    disk: Link | None = None,
) -> Node:
    """Build a node with so much device memory, at the price per GiB of a real GPU.

    Args:
        device_gib: total device memory.
        gpu: a GPU of the catalogue: its price per GiB and its PCIe rate.
        pooled: exactly `device_gib` (a memory ratio then means what it says); else as many whole
            GPUs as reach it.
        gpus: equal devices that share it, where pooled.
        host_gib: pinned host memory for weights.
        disk: the shared disk link; unlimited if not given.
    """
    kinds = {entry["name"]: entry for entry in _catalogue()["gpus"]}
    if gpu not in kinds:
        raise SpecError("gpu", gpu, " | ".join(kinds))
    if not (math.isfinite(device_gib) and device_gib > 0.0):
        raise SpecError("device_gib", device_gib, "finite, > 0")
    kind = kinds[gpu]
    count = gpus if pooled else math.ceil(device_gib / kind["memory_gib"])
    each_gib = device_gib / gpus if pooled else kind["memory_gib"]
    price_usd_h = kind["price_usd_h"] * each_gib / kind["memory_gib"]
    devices = (Gpu(each_gib, price_usd_h, gpu),) * count
    return Node(devices, host_gib, disk=disk or Link(), pcie=Link(kind["pcie_gib_s"]))
