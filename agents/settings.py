"""Settings of the learner, checked when they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stoker.envs.cluster.errors import SpecError


@dataclass(frozen=True)
class Settings:
    """How to learn."""

    algorithm: str = "ppo"
    """ppo | cem"""
    policy: str = "residual"
    """residual: start at the hazard index; scratch: without the function's own forecast (ppo)."""
    forecast: bool = True
    """Fit the forecast head and let validation decide on it."""
    collect: int = 100_000
    """Decisions under the heuristic, for the forecast and for scaling features."""
    total_steps: int = 1_000_000
    rows: int = 64
    n_steps: int = 512
    batch_size: int = 8192
    n_epochs: int = 4
    learning_rate: float = 3e-4
    ent_coef: float = 0.0
    keep: float = 0.5
    """Share of the closed decisions that is learned from; busy functions are thinned first."""
    hidden: Sequence[int] = (64, 64)
    generations: int = 15
    population: int = 24
    elites: int = 6
    sigma: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("algorithm", ("ppo", "cem")), ("policy", ("residual", "scratch"))):
            if getattr(self, name) not in choices:
                raise SpecError(f"agent.{name}", getattr(self, name), " | ".join(choices))
        for name in ("collect", "total_steps", "rows", "n_steps", "batch_size", "generations"):
            if getattr(self, name) < 1:
                raise SpecError(f"agent.{name}", getattr(self, name), "an integer >= 1")
        if not 0.0 < self.keep <= 1.0:
            raise SpecError("agent.keep", self.keep, "0 < keep <= 1")
