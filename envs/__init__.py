"""The decision problem: cluster model, workloads and environments."""

from __future__ import annotations

from typing import Any

__all__ = ["make_sb3"]


def make_sb3(id: str, num_envs: int = 1, **arguments: Any) -> Any:
    """Build an environment for stable-baselines3, which is imported only here and now.

    Args:
        id: a registered `stoker/...` id.
        num_envs: rows.
        arguments: of the environment, e.g. `view="function"`.
    """
    from stoker.agents.sb3_env import make_sb3 as make

    return make(id, num_envs, **arguments)
