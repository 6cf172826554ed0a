"""How heavy a workload is: memory footprint, GPU utilisation, and scaling both.

Shapes: N requests, F functions.  Units: seconds, GiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Function
from stoker.envs.workload.workload import Workload

FOOTPRINT_TTL_S = 3600.0


def resident_s(
    workload: Workload, functions: Sequence[Function], ttl_s: float = FOOTPRINT_TTL_S
) -> NDArray[np.float64]:
    """Measure how long each function is resident under a keep-alive of `ttl_s`. Shape: (F,).

    One instance a function, there from an arrival until `ttl_s` after the last service in flight
    ends, cut at the horizon. Start-up time is not counted.
    """
    _match(workload, functions)
    if not ttl_s >= 0.0:
        raise SpecError("ttl_s", ttl_s, ">= 0")
    count = len(functions)
    if not len(workload):
        return np.zeros(count)
    order = workload.function.argsort(kind="stable")
    function = workload.function[order]
    arrival_s = workload.arrival_s[order]
    end_s = arrival_s + _service_s(workload, functions)[order] + ttl_s
    np.minimum(end_s, workload.horizon_s, out=end_s)
    # A running maximum over all rows stays within a function when each one lies above the last.
    shift_s = function * (workload.horizon_s + 1.0)
    end_s = np.maximum.accumulate(end_s + shift_s) - shift_s
    np.minimum(end_s, workload.horizon_s, out=end_s)
    same = function[1:] == function[:-1]
    np.minimum(end_s[:-1], arrival_s[1:], out=end_s[:-1], where=same)
    held_s = np.maximum(end_s - arrival_s, 0.0)
    return np.asarray(np.bincount(function, weights=held_s, minlength=count), np.float64)


def footprint_gib(
    workload: Workload, functions: Sequence[Function], ttl_s: float = FOOTPRINT_TTL_S
) -> float:
    """Average over time the device memory that a keep-alive of `ttl_s` holds."""
    sizes_gib = np.array([f.device_gib for f in functions])
    return float(resident_s(workload, functions, ttl_s) @ sizes_gib / workload.horizon_s)


def memory_ratio(workload: Workload, functions: Sequence[Function], ratio: float) -> float:
    """Return the device memory that is `ratio` times the footprint of a keep-alive of an hour.

    Never less than the largest function, so that every function fits.
    """
    if not (np.isfinite(ratio) and ratio > 0.0):
        raise SpecError("ratio", ratio, "finite, > 0")
    largest_gib = max(f.device_gib for f in functions)
    return max(ratio * footprint_gib(workload, functions), largest_gib)


def utilisation(
    workload: Workload, functions: Sequence[Function] | None = None, gpus: int = 1
) -> float:
    """Return the share of GPU time that services take, one request at a time on a GPU.

    Args:
        workload: the traffic.
        functions: give p(1) where the workload has no service times.
        gpus: number of GPUs. Start-up time is not counted.
    """
    if gpus < 1:
        raise SpecError("gpus", gpus, "an integer >= 1")
    if functions is None and workload.service_s is None:
        raise SpecError("functions", None, "the functions, as the workload has no service times")
    return float(_service_s(workload, functions or ()).sum()) / (gpus * workload.horizon_s)


def thin(
    workload: Workload,
    rng: np.random.Generator,
    *,
    target_utilisation: float | None = None,
    keep_probability: float | None = None,
    functions: Sequence[Function] | None = None,
    gpus: int = 1,
) -> Workload:
    """Keep each request with one probability, given or such that the GPUs are so busy on average.

    Raises:
        SpecError: neither or both are given, or the workload is lighter than the target.
    """
    if (target_utilisation is None) == (keep_probability is None):
        given = (target_utilisation, keep_probability)
        raise SpecError("target_utilisation, keep_probability", given, "exactly one of them")
    if target_utilisation is not None:
        now = utilisation(workload, functions, gpus)
        if not 0.0 < target_utilisation <= now:
            raise SpecError("target_utilisation", target_utilisation, f"> 0, <= {now:.6g} as it is")
        keep_probability = target_utilisation / now
    assert keep_probability is not None
    if not 0.0 <= keep_probability <= 1.0:
        raise SpecError("keep_probability", keep_probability, "0..1")
    keep = rng.random(len(workload)) < keep_probability
    said = f"thinned to {keep_probability:.6g}"
    if target_utilisation is not None:
        said += f" (utilisation {target_utilisation:g} of {gpus} GPUs)"
    return replace(workload.where(keep), source=f"{workload.source}; {said}")


def _service_s(workload: Workload, functions: Sequence[Function]) -> NDArray[np.float64]:
    if workload.service_s is not None:
        return workload.service_s
    _match(workload, functions)
    return np.array([f.alpha_s + f.beta_s for f in functions])[workload.function]


def _match(workload: Workload, functions: Sequence[Function]) -> None:
    if tuple(f.name for f in functions) != workload.names:
        raise SpecError("functions", len(functions), "the workload's functions in its order")
