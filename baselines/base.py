"""The one Policy type: heuristic, learned or your own.

    class MyPolicy(Policy):
        '''Keep what was asked for in the last five minutes.'''

        def decide(self, snapshot):
            recent = snapshot.now_s[:, None] - snapshot.last_arrival_s < 300.0
            return Decision(keep_alive_s=np.where(recent, np.inf, 0.0))

Run it by path: `stoker simulate policy=path/to/my_policy.py:MyPolicy`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.decision import Decision, IdlePlan, Snapshot
from stoker.envs.cluster.spec import Cluster, Rules


class Policy:
    """A decision maker over B parallel rows.

    Attributes:
        rules: event-level choices, compiled into the engine.
        tick_s: seconds between two calls of `decide`; inf = only once, at the start.
        observes: whether `decide` reads `snapshot.observation`.
        slo_target: share of requests in time that the observation names as the target.
    """

    rules: Rules = Rules()
    tick_s: float = 60.0
    observes: bool = False
    slo_target: float = 0.95

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Forget everything and prepare for `rows` parallel clusters of the same functions."""

    def decide(self, snapshot: Snapshot) -> Decision:
        """Return the standing orders from now on; arrays of shape (B, F), None = unchanged."""
        raise AttributeError(f"{type(self).__name__} must define decide(snapshot)")


class IdlePolicy(Policy):
    """A policy asked at the event "a function becomes idle", on top of the hazard index."""

    rules = Rules(eviction="hazard", plan="hazard")
    tick_s = math.inf

    def decide(self, snapshot: Snapshot) -> Decision:
        """Nothing stands: every decision is an event's."""
        return Decision()

    def act(self, observation: NDArray[np.float32]) -> IdlePlan:
        """Say how to treat each function that has just become idle. Shape: (N, K)"""
        raise AttributeError(f"{type(self).__name__} must define act(observation)")
