"""What the simulator needs of a policy.

Shapes: B rows, K features, Z batch sizes.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

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

    @property
    def observes(self) -> bool:
        """Whether `decide` reads `Snapshot.observation`."""
        ...

    @property
    def slo_target(self) -> float:
        """Share of requests in time that the observation names as the target."""
        ...

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Forget everything."""
        ...

    def decide(self, snapshot: Snapshot) -> Decision:
        """Return standing orders."""
        ...


class DecidesBatches(Protocol):
    """Whatever says what to do where a batch may start."""

    def decide(self, observation: NDArray[np.float32], due: Any) -> NDArray[np.int64]:
        """Return actions, see batching.py. Shapes: (B, K) -> (B,)"""
        ...


@runtime_checkable
class BatchedLike(PolicyLike, Protocol):
    """A policy that is asked whenever a batch may start."""

    @property
    def batches(self) -> DecidesBatches:
        """Whom to ask."""
        ...

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Batch sizes that its actions stand for. Shape: (Z,)"""
        ...

    @property
    def wait_share(self) -> float:
        """Longest wait for the next decision, in latency targets."""
        ...
