"""Registration of the environment ids (strings only, so that importing stays cheap)."""

from __future__ import annotations

import gymnasium as gym

IDS = {
    "KeepAlive": "keepalive:KeepAlive",
    "Prewarm": "prewarm:Prewarm",
    "Batching": "batching:Batching",
    "Swap": "swap:Swap",
    "Cluster": "all_levers:AllLevers",
}
"""Module of each id and what its classes' names begin with."""


def register_envs() -> None:
    """Register every `stoker/...` id once."""
    for name, where in IDS.items():
        if f"stoker/{name}-v0" not in gym.registry:
            gym.register(
                id=f"stoker/{name}-v0",
                entry_point=f"stoker.envs.{where}Env",
                vector_entry_point=f"stoker.envs.{where}VectorEnv",
            )
    if "stoker/Runtime-v0" not in gym.registry:
        gym.register(
            id="stoker/Runtime-v0",
            entry_point="stoker.runtime.environment:RuntimeEnv",
            nondeterministic=True,  # real models, in real time
        )
