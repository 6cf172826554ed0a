"""The fallback that needs no setting: keep what is loaded until memory is short."""

from __future__ import annotations

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.spec import Cluster


class KeepAll(Policy):
    """Keep what is loaded until memory is short; load on demand: safe on any cluster."""

    tick_s = float("inf")

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Take the shape of the cluster."""
        self._shape = (rows, len(cluster.functions))

    def decide(self, snapshot: Snapshot) -> Decision:
        """Let eviction decide."""
        return Decision(
            keep_alive_s=np.full(self._shape, np.inf),
            host_keep_alive_s=np.full(self._shape, np.inf),
            prewarm=np.zeros(self._shape, np.int32),
            prewarm_after_s=np.full(self._shape, np.inf),
        )
