"""What an agent's action means: one file a lever, combined into the action of an environment."""

from __future__ import annotations

from stoker.envs.levers.batch import Batch
from stoker.envs.levers.host_copy import HostCopy
from stoker.envs.levers.keepalive import KeepAlive
from stoker.envs.levers.lever import Lever, Levers
from stoker.envs.levers.plan import Plan
from stoker.envs.levers.prewarm import Prewarm
from stoker.envs.levers.scene import Scene
from stoker.envs.levers.side import Side
from stoker.envs.levers.swap import Swap
from stoker.envs.levers.token_budget import TokenBudget

__all__ = [
    "LEVERS", "Batch", "HostCopy", "KeepAlive", "Lever", "Levers", "Plan", "Prewarm", "Scene",
    "Side", "Swap", "TokenBudget",
]  # fmt: skip

LEVERS: dict[str, type[Lever]] = {
    "KeepAlive": KeepAlive, "Swap": Swap, "Prewarm": Prewarm, "Batch": Batch,
    "Plan": Plan, "HostCopy": HostCopy, "Side": Side,
}  # fmt: skip
"""Those that an exported policy may use, by name."""
