"""How a policy is let at real models: its guard, its fallback, limits on queues, log and memory.

Units: seconds of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stoker.agents.deployed import on_clock
from stoker.agents.nodes import fill, plain
from stoker.baselines.base import Policy
from stoker.baselines.registry import POLICIES, load_policy
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.policy_like import BatchedLike
from stoker.runtime.ask_again import ask_again
from stoker.runtime.controller_settings import ControllerSettings
from stoker.runtime.guard_settings import GuardSettings


@dataclass(frozen=True)
class Serving:
    """What a replay takes beside the policy."""

    guard: GuardSettings = field(default_factory=GuardSettings)
    limits: ControllerSettings = field(default_factory=ControllerSettings)
    fallback: Mapping[str, Any] | str | None = None
    """Node or name of a policy; None = the guard's own choice."""
    log: Path | None = None
    """Folder for the decisions."""
    memory: Path | None = None
    """File of what is known of the traffic: recalled at the start, saved to."""

    def make_fallback(self) -> Policy | None:
        """Build the fallback afresh."""
        return None if self.fallback is None else load_policy(self.fallback)


def serving_of(cfg: DictConfig, compression: float = 1.0) -> Serving:
    """Read the nodes `guard` and `limits`, where to log and what to remember by.

    Args:
        cfg: of the command.
        compression: by which a named fallback's times, given in the trace's, are divided.
    """
    node = plain(cfg.guard)
    fallback = node.pop("fallback")
    if fallback in POLICIES:
        fallback = on_clock({"_target_": POLICIES[fallback]}, compression)
    return Serving(
        fill("guard", GuardSettings, node),
        fill("limits", ControllerSettings, plain(cfg.limits)),
        fallback,
        None if cfg.log is None else Path(cfg.log),
        None if cfg.memory is None else Path(cfg.memory),
    )


def ask_log(folder: str, policy: Policy) -> dict[str, Any]:
    """Ask a policy what a log says that another was asked, and print how far they agree."""
    if not (hasattr(policy, "act") or isinstance(policy, BatchedLike)):
        accepted = "a policy of events (one of ticks needs its cluster: runtime/ask_again.py)"
        raise SpecError("ask", type(policy).__name__, accepted)
    found = ask_again(folder, policy)
    print(f"{found.decisions:,} decisions on record; the same in {found.share:.2%}")
    for name, count in found.differ.items():
        print(f"  {name}: {count:,} differ, by {found.largest.get(name, 0.0):g} at most")
    if found.faults:
        print(f"  {found.faults:,} answers that the guard would have refused")
    return {
        "log": folder, "decisions": found.decisions, "same": found.same, "faults": found.faults,
        "differ": dict(found.differ), "largest": found.largest,
    }  # fmt: skip
