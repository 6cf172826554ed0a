"""Registration of the environment ids (strings only, so that importing stays cheap)."""

from __future__ import annotations

import gymnasium as gym


def register_envs() -> None:
    """Register every `stoker/...` id once."""
    if "stoker/KeepAlive-v0" in gym.registry:
        return
    gym.register(
        id="stoker/KeepAlive-v0",
        entry_point="stoker.envs.keepalive:KeepAliveEnv",
        vector_entry_point="stoker.envs.keepalive:KeepAliveVectorEnv",
    )
