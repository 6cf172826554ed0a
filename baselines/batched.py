"""A policy of batches alone as a Policy: what has been loaded stays, one instance a function.

Shapes: B rows, F functions.  Units: latency targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stoker.baselines.base import Policy
from stoker.baselines.batch_policy import BatchPolicy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import require
from stoker.envs.cluster.spec import Cluster


class Batched(Policy):
    """Keep all; whenever a batch may start, ask.

    Args:
        batches: decides on batches.
        sizes: of batches, ascending.
        wait_share: longest wait for the next decision, in latency targets of the function.
    """

    tick_s = math.inf

    def __init__(
        self,
        batches: BatchPolicy,
        sizes: Sequence[int] = (1, 2, 4, 8, 16, 32),
        wait_share: float = 0.1,
    ) -> None:
        require(wait_share > 0.0, "policy.wait_share", wait_share, "> 0")
        self.batches, self.wait_share = batches, wait_share
        self.sizes = np.array(sizes, np.int64)

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Take the shape of the cluster."""
        for f in cluster.functions:
            require(math.isfinite(f.slo_s), f"function[{f.name}].slo_s", f.slo_s, "finite, > 0")
        self._shape = (rows, len(cluster.functions))
        self.batches.reset(*self._shape)

    def decide(self, snapshot: Snapshot) -> Decision:
        """One instance each, for as long as there is memory."""
        return Decision(
            keep_alive_s=np.full(self._shape, np.inf),
            host_keep_alive_s=np.full(self._shape, np.inf),
            max_instances=np.ones(self._shape, np.int32),
        )
