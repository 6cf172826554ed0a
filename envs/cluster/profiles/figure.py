"""A figure with its source and quality flag, and the tables of figures of this folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stoker.envs.cluster.errors import SpecError

QUALITIES = ("measured", "derived", "extrapolated")
"""Best first; gpus.yaml says what each means."""
EXTRAPOLATED = QUALITIES[-1]


@dataclass(frozen=True)
class Figure:
    """One number, where it is from, and how far it can be trusted."""

    value: float
    quality: str
    source: str
    """What was read and where, in words; several sources are joined by "; "."""


def worst(figures: Iterable[Figure]) -> str:
    """Return the worst quality among figures."""
    return max((figure.quality for figure in figures), key=QUALITIES.index)


def computed(value: float, *parts: Figure, at_best: str = "derived") -> Figure:
    """Make a figure of other figures: never better than any of them, nor than `at_best`."""
    quality = max(at_best, worst(parts), key=QUALITIES.index)
    sources = dict.fromkeys(part for figure in parts for part in figure.source.split("; "))
    return Figure(value, quality, "; ".join(sources))


@cache
def table(name: str) -> dict[str, Any]:
    """Read one YAML file of this folder."""
    text = Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def entry(name: str, key: str, field: str) -> dict[str, Any]:
    """Look an entry up by name.

    Raises:
        SpecError: lists the names there are.
    """
    entries = table(name)
    if key not in entries:
        raise SpecError(field, key, " | ".join(entries))
    found: dict[str, Any] = entries[key]
    return found


def figure(raw: dict[str, Any], gpu: str | None = None) -> Figure:
    """Resolve a figure's source; one measured on a class is extrapolated on any other.

    Args:
        raw: value, quality, source, and `gpu` if it was measured on one class for all.
        gpu: the class it is wanted for.
    """
    elsewhere = gpu is not None and raw.get("gpu", gpu) != gpu
    source = table("sources")[raw["source"]]
    cited = f"{source['what']}: {source['where']}"
    return Figure(raw["value"], EXTRAPOLATED if elsewhere else raw["quality"], cited)


def gpu_figures(name: str) -> dict[str, Figure]:
    """Return every figure of a GPU class: memory, rates, prices, power (see gpus.yaml)."""
    return {k: figure(raw) for k, raw in entry("gpus", name, "gpu").items() if k != "product"}
