"""The policies that an evaluation judges: which, of what kind, tuned or not, and their frontiers.

Units: seconds; price factors are plain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stoker.agents.build import build_policy
from stoker.agents.nodes import plain
from stoker.baselines import search, spaces
from stoker.baselines.base import Policy
from stoker.baselines.hazard import HazardIndex
from stoker.baselines.registry import POLICIES
from stoker.envs.cluster.errors import SpecError

TUNED = "tuned.yaml"
LEARNED = "learned"


@dataclass(frozen=True)
class Setting:
    """One point of a policy's frontier; point 0 is the headline."""

    point: int
    policy: Policy
    wait_factor: float = 1.0
    """The policy is told that waiting costs this many times as much."""


@dataclass(frozen=True)
class Judged:
    """A policy to be judged."""

    name: str
    kind: str
    settings: list[Setting]
    tuned: bool | None = None
    """None = nothing to tune."""
    parameters: dict[str, Any] = field(default_factory=dict)


def kind_of(policy: Policy) -> str:
    """Say whose a policy is."""
    if isinstance(policy, HazardIndex):
        return "hazard"
    made = f"{type(policy).__module__}.{type(policy).__qualname__}"
    return "published" if made in POLICIES.values() else "yours"


def read_tuned(folder: str | Path | None) -> dict[str, dict[str, Any]]:
    """Read the policies' nodes out of a tune run's folder; {} for None."""
    if folder is None:
        return {}
    path = Path(folder)
    path = path / TUNED if path.is_dir() else path
    if not path.is_file():
        raise SpecError("tuned", str(folder), f"the folder of a tune run, with {TUNED} in it")
    loaded = OmegaConf.load(path)
    if not isinstance(loaded, DictConfig) or "policies" not in loaded:
        raise SpecError("tuned", str(path), "a file that `stoker tune` wrote")
    return {str(name): plain(node) for name, node in loaded["policies"].items()}


def read_scores(folder: str) -> dict[str, float]:
    """Scores of a tune run's best settings: mean log cost over the reference policy's."""
    loaded = OmegaConf.load(Path(folder) / TUNED)
    return {str(name): float(node["tuned"]) for name, node in loaded["scores"].items()}


def gather(cfg: DictConfig, scale: float) -> list[Judged]:
    """List the policies of an evaluation.

    Args:
        cfg: nodes `policies`, `tuned`, `learned`, `frontier`, `oracle`.
        scale: length of the traffic's time unit, 1 = as traced (see `search.time_scale`).
    """
    tuned = read_tuned(cfg.tuned)
    factors = [float(f) for f in cfg.frontier or () if float(f) != 1.0]
    out = []
    for name, node in cfg.policies.items():
        chosen = {**plain(node), **tuned.get(str(name), {})}
        out.append(_heuristic(str(name), chosen, factors, scale, str(name) in tuned))
    if cfg.learned is not None:
        out.append(_learned(str(cfg.learned), factors))
    if cfg.oracle:
        from stoker.baselines.hazard_oracle import HazardOracle

        node = {k: v for k, v in tuned.get("hazard", {}).items() if k in search.ORACLE_TAKES}
        out.append(
            Judged("hazard_oracle", "oracle", _priced(HazardOracle(**node), factors), None, node)
        )
    return out


def _heuristic(
    name: str, node: dict[str, Any], factors: Sequence[float], scale: float, tuned: bool
) -> Judged:
    policy = build_policy(node)
    parameters = {key: value for key, value in node.items() if key != "_target_"}
    if kind_of(policy) in ("yours", "hazard"):
        settings = _priced(policy, factors)
    else:
        nodes = search.frontier(name, node, factors, scale)
        settings = [Setting(0, policy)]
        settings += [Setting(k, build_policy(other)) for k, other in enumerate(nodes, 1)]
    known = tuned if spaces.SPACES.get(name) else None
    return Judged(name, kind_of(policy), settings, known, parameters)


def _learned(path: str, factors: Sequence[float]) -> Judged:
    try:
        from stoker.agents.learned import load_learned
    except ModuleNotFoundError as error:
        raise SpecError("learned", path, "null: this version cannot load policies yet") from error
    return Judged(LEARNED, "learned", _priced(load_learned(path), factors))


def _priced(policy: Policy, factors: Sequence[float]) -> list[Setting]:
    """The frontier of a policy that weighs waiting against rent."""
    points = [Setting(k, policy, factor) for k, factor in enumerate(factors, 1)]
    return [Setting(0, policy), *points]


def tuning_said(judged: Sequence[Judged]) -> Mapping[str, Any]:
    """Say for the report which policies were tuned, and their parameters."""
    untuned = [j.name for j in judged if j.tuned is False]
    facts: dict[str, Any] = {j.name: _parameters(j) for j in judged if j.parameters}
    return {"untuned": ", ".join(untuned) or "none", "parameters": facts}


def _parameters(judged: Judged) -> str:
    def short(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{key}={short(value)}" for key, value in judged.parameters.items())
