"""What the simulator needs of a policy."""

from __future__ import annotations

from typing import Protocol

from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.spec import Cluster, Rules


class PolicyLike(Protocol):
    """Every `stoker.baselines.base.Policy`.

    One that also has `act(observation) -> IdlePlan` decides whenever a function becomes idle.
    """

    @property
    def rules(self) -> Rules:
        """Event-level choices."""
        ...

    @property
    def tick_s(self) -> float:
        """Seconds between decisions."""
        ...

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Forget everything."""
        ...

    def decide(self, snapshot: Snapshot) -> Decision:
        """Return standing orders."""
        ...
