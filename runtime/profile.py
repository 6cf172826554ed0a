"""A calibration profile: written and read as YAML, and turned into a Cluster for the simulator.

Units: seconds, bytes, GiB, GiB/s, dollars per hour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import GIB, Cluster, Function, Gpu, Link, Node, Objective
from stoker.runtime.arena import aligned
from stoker.runtime.catalog import Deployment

FORMAT = "stoker-profile-2"
QUANTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
FACTORS = 21
"""Equally spaced quantiles that noise is drawn by: the measured ones are among them."""
_MODEL_NUMBERS = ("weights_bytes", "device_bytes", "alpha_s", "beta_s", "max_batch")


def write_profile(profile: Mapping[str, Any], path: str | Path) -> None:
    """Write a profile as YAML."""
    text = yaml.safe_dump(dict(profile), sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")


def read_profile(path: str | Path) -> dict[str, Any]:
    """Read and check a profile.

    Raises:
        SpecError: the file is missing, is no profile, or a figure in it is not a number.
    """
    try:
        profile = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        accepted = f"a YAML file of `stoker calibrate` ({reason})"
        raise SpecError("profile", str(path), accepted) from None
    return check_profile(profile, f"profile {path}")


def check_profile(profile: object, where: str = "profile") -> dict[str, Any]:
    """Check the figures that a Cluster is made of."""
    if not isinstance(profile, dict) or profile.get("format") != FORMAT:
        found = profile.get("format") if isinstance(profile, dict) else type(profile).__name__
        raise SpecError(f"{where}: format", found, FORMAT)
    models = profile.get("models")
    if not isinstance(models, dict) or not models:
        raise SpecError(f"{where}: models", models, "at least one model")
    for name, entry in models.items():
        at = f"{where}: models.{name}"
        if not isinstance(entry, dict):
            raise SpecError(at, entry, "a table of figures")
        for key in _MODEL_NUMBERS:
            _number(f"{at}.{key}", entry.get(key))
        for tier in ("disk", "host"):
            load = entry.get("load_s")
            found = load.get(tier) if isinstance(load, dict) else None
            _number(
                f"{at}.load_s.{tier}.p50", found.get("p50") if isinstance(found, dict) else None
            )
        for key in ("order_s", "load_order_s"):
            order = entry.get(key)
            _number(f"{at}.{key}.p50", order.get("p50") if isinstance(order, dict) else None)
    _number(f"{where}: rest_s", profile.get("rest_s", 0.0))
    beside = profile.get("beside", {})
    if not isinstance(beside, dict) or not beside.keys() <= {"batch", "load"}:
        raise SpecError(f"{where}: beside", beside, "batch and load")
    for key, factor in beside.items():
        _number(f"{where}: beside.{key}", factor)
    return profile


def _number(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(field, value, "a number >= 0")
    if not (math.isfinite(value) and value >= 0.0):
        raise SpecError(field, value, "a number >= 0")
    return float(value)


def link_gib_s(profile: Mapping[str, Any]) -> float:
    """Rate of loads from host memory: that of the fastest model, at most a plain copy's."""
    rates = [
        entry["weights_bytes"] / GIB / max(entry["load_s"]["host"]["p50"], 1e-9)
        for entry in profile["models"].values()
    ]
    return float(min(max(rates), profile.get("copy_gib_s", math.inf)))


def residual_factors(profile: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Factors on start-up and service times as measured, in the form of `FaultRates`.

    Quantile by quantile, over all models: the loads' seconds from disk over their medians', so that
    long loads count for what they are; the mean of the batches' times over the median of their
    size. Below the 1 % quantile and above the 99 % one nothing is known, so the factors end there.
    """
    loads, batches = [], []
    for name, entry in profile["models"].items():
        disk, residual = entry["load_s"]["disk"], entry.get("residual", {})
        for q in QUANTILES:
            if f"p{q}" not in disk or f"p{q}" not in residual:
                accepted = "p1 to p99 of load_s.disk and of residual"
                raise SpecError(f"profile: models.{name}: p{q}", None, accepted)
        loads.append([disk[f"p{q}"] for q in QUANTILES])
        batches.append([1.0 + residual[f"p{q}"] for q in QUANTILES])
    known, levels = np.array(QUANTILES) / 100.0, np.linspace(0.0, 1.0, FACTORS)
    whole = np.sum(loads, axis=0)
    relative = whole / max(float(whole[QUANTILES.index(50)]), 1e-9)
    each = [np.interp(levels, known, found) for found in (relative, np.mean(batches, axis=0))]
    return tuple(each[0].tolist()), tuple(each[1].tolist())


def profile_function(
    entry: Mapping[str, Any], name: str, pcie_gib_s: float, **changes: Any
) -> Function:
    """Make a function of one model's figures, so that the simulated loads take what was measured.

    A load from host memory is the way of the order, a fixed part and the bytes over the device's
    link; one from disk the same way and part, and the bytes at the function's own disk rate, in one
    go: a worker's copies follow each other.
    """
    weights_gib = entry["weights_bytes"] / GIB
    disk_s, host_s = entry["load_s"]["disk"]["p50"], entry["load_s"]["host"]["p50"]
    order_s = entry["order_s"]["p50"]
    load_order_s = entry["load_order_s"]["p50"]
    fixed_s = min(max(host_s - weights_gib / pcie_gib_s, 0.0), disk_s)
    figures: dict[str, Any] = {
        "weights_gib": weights_gib,
        "device_gib": entry["device_bytes"] / GIB,
        "runtime_s": fixed_s + load_order_s,
        "load_gib_s": weights_gib / max(disk_s - fixed_s, 1e-6),
        "alpha_s": entry["alpha_s"] + order_s,
        "beta_s": entry["beta_s"],
        "batch_s": _curve(entry, order_s),
        "max_batch": int(entry["max_batch"]),
    }
    return Function(name=name, **{**figures, **changes})


def _curve(entry: Mapping[str, Any], order_s: float) -> tuple[float, ...]:
    """Times of batches of 1, 2, ...: as measured, linear between, none below a smaller batch's."""
    measured = entry.get("batch_s", {})
    if not measured:
        return ()
    sizes = sorted(measured)
    times = np.interp(range(1, sizes[-1] + 1), sizes, [measured[size] for size in sizes])
    return tuple((np.maximum.accumulate(times) + order_s).tolist())


def _joined(deployment: Deployment, entry: Mapping[str, Any]) -> dict[str, Any]:
    """How a decoder differs: each request is an order of its own that joins those that run.

    The simulator's time is that of a request alone; that others slow it is not in these figures.
    """
    return {
        "device_gib": aligned(deployment.device_bytes) / GIB,
        "max_batch": 1,
        "concurrency": deployment.generation.max_batch,
        "alpha_s": entry["alpha_s"] + entry["order_s"]["p50"] + entry["beta_s"],
        "beta_s": 0.0,
        "batch_s": (),
    }


def profile_cluster(
    profile: Mapping[str, Any],
    deployments: Sequence[Deployment],
    *,
    device_bytes: Sequence[int],
    host_bytes: int = 0,
    price_usd_h: float = 1.0,
    host_price_usd_gib_h: float = 0.0,
    slo_s: float = math.inf,
    objective: Objective | None = None,
    first_bin_s: float = 3.0,
) -> Cluster:
    """Make the cluster that the runtime is, of what was measured on it.

    Devices are exclusive (one batch at a time), unless there are decoders, whose requests run
    beside each other and beside other batches; loads of a device come one after the other, and they
    and batches slow each other by the factors of `beside`.

    Args:
        profile: of this machine.
        deployments: the functions, each naming a model of the profile.
        device_bytes: arena of each device.
        host_bytes: host tier.
        price_usd_h: of each device.
        host_price_usd_gib_h: of host memory.
        slo_s: latency target of every function.
        objective: what the operator pays.
        first_bin_s: see Cluster.

    Raises:
        SpecError: a function's model is not in the profile, or the cluster cannot be built.
    """
    models = check_profile(dict(profile))["models"]
    pcie_gib_s = link_gib_s(profile)
    functions = []
    for deployment in deployments:
        entry = models.get(deployment.model.name)
        if entry is None:
            field = f"function[{deployment.function}].model"
            raise SpecError(field, deployment.model.name, " | ".join(models))
        changes = {"slo_s": slo_s} | (_joined(deployment, entry) if deployment.decoder else {})
        functions.append(profile_function(entry, deployment.function, pcie_gib_s, **changes))
    sharing = "parallel" if any(d.decoder for d in deployments) else "exclusive"
    beside = {"batch": 1.0, "load": 1.0} | profile.get("beside", {})
    gpus = tuple(
        Gpu(
            size / GIB, price_usd_h, kind="arena", sharing=sharing,
            batch_beside_load=max(beside["batch"], 1.0), load_beside_batch=max(beside["load"], 1.0),
        )
        for size in device_bytes
    )  # fmt: skip
    node = Node(
        gpus,
        host_gib=host_bytes / GIB,
        host_price_usd_gib_h=host_price_usd_gib_h,
        disk=Link(math.inf, "fifo", len(gpus)),
        pcie=Link(pcie_gib_s, "fifo", 1),
        loading="pipelined",
    )
    return Cluster(
        node,
        tuple(functions),
        objective or Objective(),
        first_bin_s=first_bin_s,
        profile=str(profile.get("name", "unnamed")),
    )
