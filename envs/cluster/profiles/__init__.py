"""Shipped calibration profiles: published figures of GPUs, models, storage and serving systems.

Each figure of the YAML files beside this one has a source and a quality flag; their heads say what
it means and by which rule it was carried over. `gpu`, `node` and `function` build a cluster of
them, `figures` and `quality` say what the result rests on. How to add to them: docs/profiles.md.

Units: seconds, GiB, GiB/s, tokens, dollars per hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.profiles import service
from stoker.envs.cluster.profiles.figure import (
    QUALITIES,
    Figure,
    computed,
    entry,
    figure,
    gpu_figures,
    table,
    worst,
)
from stoker.envs.cluster.spec import GIB, Function, Gpu, Link, Node

__all__ = [
    "QUALITIES",
    "Figure",
    "figures",
    "function",
    "gpu",
    "gpu_figures",
    "models",
    "node",
    "quality",
]

PROMPT_TOKENS, OUTPUT_TOKENS = 1155.0, 211.0
"""Means of the Azure LLM inference trace 2023, conversations (19,366 requests, CC-BY 4.0)."""
PRICES = ("on_demand", "spot")


def models() -> tuple[str, ...]:
    """Name the models there are figures of."""
    return tuple(table("models"))


def gpu(name: str, *, price: str = "on_demand") -> Gpu:
    """Build one device of a class.

    Args:
        name: A100 | H100 | H200 | L4 | A10 | T4.
        price: on_demand | spot.

    Raises:
        SpecError: lists the names there are.
    """
    known = gpu_figures(name)
    if price not in PRICES:
        raise SpecError("price", price, " | ".join(PRICES))
    return Gpu(known["memory_gib"].value, known[f"{price}_usd_h"].value, kind=name)


def node(
    name: str,
    *,
    count: int = 1,
    storage: str | None = None,
    host_gib: float = 0.0,
    price: str = "on_demand",
) -> Node:
    """Build a node of equal devices.

    Args:
        name: class of the devices.
        count: devices.
        storage: tier in storage.yaml that the loads share; None = no limit besides each function's
            own ceiling, which already holds for the drives it was measured on.
        host_gib: pinned host memory for weights.
        price: on_demand | spot.
    """
    disk = Link()
    if storage is not None:
        disk = Link(figure(entry("storage", storage, "storage")["gib_s"]).value)
    devices = (gpu(name, price=price),) * count
    return Node(devices, host_gib, disk=disk, pcie=Link(gpu_figures(name)["pinned_gib_s"].value))


def function(
    model: str,
    gpu: str,
    *,
    system: str = "torch",
    dtype: str = "bf16",
    prompt_tokens: float = PROMPT_TOKENS,
    output_tokens: float = OUTPUT_TOKENS,
    max_batch: int = 8,
    gpus: int = 1,
    **changes: Any,
) -> Function:
    """Build the function that a model is on a GPU class.

    It is named after the model, and a load from disk takes what was measured on a node of the class
    whose disk link is not the bottleneck.

    Args:
        model: name in models.yaml.
        gpu: name in gpus.yaml.
        system: torch | sllm | vllm, which sets start-up and load rate.
        dtype: bf16, and for decoder LLMs int8 (weights only).
        prompt_tokens: of a request to a decoder LLM.
        output_tokens: likewise.
        max_batch: requests served together; the device holds a key-value cache for as many.
        gpus: devices that an instance spans; each of them holds a context of its own.
        changes: fields of Function, over those of the profile. With `alpha_s` given, a model
            without service times is accepted.

    Raises:
        SpecError: a name is unknown, the model does not fit, or nothing gives its service time.
    """
    known = figures(
        model,
        gpu,
        system=system,
        dtype=dtype,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        max_batch=max_batch,
        gpus=gpus,
        served="alpha_s" not in changes,
    )
    fields = {name: found.value for name, found in known.items()}
    sizes = {"name": model, "max_batch": max_batch, "gpus": gpus}
    built = Function(**{**sizes, **fields, **changes})
    memory_gib = built.gpus * gpu_figures(gpu)["memory_gib"].value
    if built.device_gib > memory_gib:
        at = f"function[{built.name}].device_gib"
        raise SpecError(at, round(built.device_gib, 2), f"<= {memory_gib} ({built.gpus} x {gpu})")
    return built


def figures(
    model: str,
    gpu: str,
    *,
    system: str = "torch",
    dtype: str = "bf16",
    prompt_tokens: float = PROMPT_TOKENS,
    output_tokens: float = OUTPUT_TOKENS,
    max_batch: int = 8,
    gpus: int = 1,
    served: bool = True,
) -> dict[str, Figure]:
    """Return what `function` rests on: a figure for each field that it sets.

    Arguments are those of `function`; `served=False` leaves the service time out.

    Raises:
        SpecError: as `function`, but does not ask whether the model fits.
    """
    known, device = entry("models", model, "model"), gpu_figures(gpu)
    if dtype not in known["weights_gib"]:
        raise SpecError(f"dtype of {model}", dtype, " | ".join(known["weights_gib"]))
    started = entry("systems", system, "system")
    weights = figure(known["weights_gib"][dtype])
    found = {
        "weights_gib": weights,
        "device_gib": _device(
            known, device, weights, max_batch * (prompt_tokens + output_tokens), gpus
        ),
        "runtime_s": _sum(figure(started["process_s"], gpu), device["context_s"]),
        "load_gib_s": _disk_leg(known, weights, system, gpu),
    }
    if "warmup_s" in started:
        found["warmup_s"] = figure(started["warmup_s"], gpu)
    if served:
        found["alpha_s"], found["beta_s"] = service.times(
            model,
            gpu,
            dtype=dtype,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            gpus=gpus,
        )
    return found


def quality(used: Mapping[str, Figure]) -> str:
    """Return the worst flag among the figures used: measured, derived or extrapolated."""
    return worst(used.values())


def _sum(*parts: Figure) -> Figure:
    return computed(sum(part.value for part in parts), *parts)


def _device(
    known: Mapping[str, Any],
    device: Mapping[str, Figure],
    weights: Figure,
    tokens: float,
    gpus: int,
) -> Figure:
    """Weights, the context of each device, and the key-value cache of so many tokens."""
    held = _sum(weights, *[device["context_gib"]] * gpus)
    if "cache_bytes" not in known:
        return held
    cached = figure(known["cache_bytes"])
    return computed(held.value + tokens * cached.value / GIB, held, cached)


def _disk_leg(known: Mapping[str, Any], weights: Figure, system: str, gpu: str) -> Figure:
    """Ceiling of the disk leg: of the whole load's time, what the copy to the device leaves.

    The model's own load where it was measured, else the rate of the system.
    """
    raw = known.get("load_s", {}).get(system, {}).get("disk")
    if raw is None:
        raw = entry("systems", system, "system")["disk_gib_s"]
        whole = figure(raw, gpu)
        rate_gib_s = whole.value
    else:
        whole = figure(raw, gpu)
        rate_gib_s = known["weights_gib"]["bf16"]["value"] / whole.value
    pinned = gpu_figures(raw["gpu"])["pinned_gib_s"]
    return computed(1.0 / (1.0 / rate_gib_s - 1.0 / pinned.value), whole, pinned)
