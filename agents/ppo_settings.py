"""How a learner of stable-baselines3 learns, as the `agent` node of a config says."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from omegaconf import DictConfig

from stoker.agents.nodes import plain
from stoker.envs.cluster.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """What every learner of an environment with steps in order needs.

    Raises:
        SpecError: names the field of `agent`.
    """

    total_steps: int
    rows: int
    """Clusters side by side."""
    batch_size: int
    learning_rate: float
    gamma: float
    hidden: tuple[int, ...]

    def __post_init__(self) -> None:
        for f in fields(self):
            least = 0 if f.name == "deviations" else 1
            if f.type == "int" and getattr(self, f.name) < least:
                raise SpecError(f"agent.{f.name}", getattr(self, f.name), f"an integer >= {least}")
        for name in ("gamma", "gae_lambda", "team", "explore_share", "explore_least"):
            if not 0.0 <= getattr(self, name, 0.0) <= 1.0:
                raise SpecError(f"agent.{name}", getattr(self, name), "0..1")

    @classmethod
    def of(cls, node: DictConfig) -> Self:
        """Read the `agent` node; an unknown or missing key is the user's mistake."""
        options, known = plain(node), [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                raise SpecError(f"agent.{name}", options[name], " | ".join(known))
        for name in known:
            if name not in options:
                raise SpecError(f"agent.{name}", None, "a value")
        return cls(**{**options, "hidden": tuple(options["hidden"])})


@dataclass(frozen=True, kw_only=True)
class PpoSettings(LearnerSettings):
    """What PPO needs beside that."""

    n_steps: int
    n_epochs: int
    ent_coef: float
    gae_lambda: float

    @property
    def arguments(self) -> dict[str, Any]:
        """Those that stable-baselines3's PPO takes by these names."""
        names = (
            "n_steps", "batch_size", "n_epochs", "learning_rate", "ent_coef", "gamma", "gae_lambda",
        )  # fmt: skip
        return {"device": "cpu", **{name: getattr(self, name) for name in names}}
