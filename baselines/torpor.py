"""Torpor, first FaaSwap (ATC 2025, arXiv 2306.03622): models wait in host memory, not on a GPU.

Rule: every model has a host copy from the start and for good; a request swaps its model in, in
place of the least recently used, and what is due first goes first.
A set of rules and standing orders. It takes a cluster with a host tier, and functions and nodes
that say what a swap costs: `runtime_s=0` (runtimes are pooled), `overlap_s` (execution during the
copy), `loading="pipelined"`, `nvlink`. Differs from the paper, as recalled: requests go by
deadline, not by how many more of a function have to meet their target; heavy models are not spared;
a request does not leave the GPU that holds its model because another one is free.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.spec import Rules


class Torpor(Policy):
    """Swap models between host memory and GPUs.

    Args:
        eviction: which model leaves a GPU for another.
        order: which waiting function gets memory, and who runs next on an exclusive GPU.
    """

    tick_s = math.inf

    def __init__(self, eviction: str = "lru", order: str = "edf") -> None:
        self.rules = Rules(eviction=eviction, order=order)

    def decide(self, snapshot: Snapshot) -> Decision:
        """Bring everything to host memory and let nothing expire."""
        shape = snapshot.idle.shape
        return Decision(
            keep_alive_s=np.full(shape, np.inf),
            host_keep_alive_s=np.full(shape, np.inf),
            prewarm_host=np.ones(shape, np.int32),
        )
