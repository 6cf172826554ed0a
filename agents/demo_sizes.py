"""How large the demo is, in full and for the tests.

Units: hours of the trace; seconds of this machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stoker.agents.settings import Settings
from stoker.runtime.training import DEMO_RECIPES, Recipe


@dataclass(frozen=True)
class Size:
    """What the stages are given."""

    recipes: tuple[Recipe, ...] = DEMO_RECIPES
    passes: int = 7
    """Of the calibration."""
    rest_s: float = 0.08
    """Mean time between its requests, about that between those of the replay."""
    functions: int = 20
    """On the cluster."""
    ratios: tuple[float, ...] = (0.4, 0.55, 0.7)
    replay_ratio: float = 0.55
    episode_h: float = 4.0
    warmup_h: float = 0.5
    """Left out of every score."""
    trials: int = 40
    """Settings of each opponent that the budget is spread over."""
    validation: int = 6
    """Problems that choose what is deployed."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    """Held-out problems, each at every ratio."""
    frontier: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    replay_s: float = 60.0
    settings: Settings = field(
        default_factory=lambda: Settings(
            collect=50_000, total_steps=300_000, rows=32, n_steps=512, batch_size=4096
        )
    )


FULL = Size()


def quick() -> Size:
    """Return the size for tests: everything runs, nothing is learnt."""
    small = tuple(r for r in DEMO_RECIPES if r.name in ("gpt-small", "digits"))
    return Size(
        recipes=tuple(Recipe(r.name, r.config, 3, 4, r.learning_rate) for r in small),
        passes=3,
        rest_s=0.005,
        functions=6,
        ratios=(0.4, 0.7),
        replay_ratio=0.4,
        episode_h=1.0,
        warmup_h=0.1,
        trials=3,
        validation=1,
        seeds=(0, 1),
        frontier=(),
        replay_s=4.0,
        settings=Settings(
            collect=3_000, total_steps=1_000, rows=4, n_steps=128, batch_size=256, n_epochs=1
        ),
    )
