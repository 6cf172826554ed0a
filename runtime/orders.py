"""Standing orders of two deciders on one cluster: what stood at first, whose orders stand now.

Shapes: F functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.decision import PER_FUNCTION, Decision
from stoker.envs.cluster.spec import Cluster

ONE_SHOT = ("drop_head", "prewarm_host")
"""Orders that are used up when they are carried out."""
SILENT = {"variant": 0, "multiplier": 1.0, "token_budget": 512}
"""What a decider means that has never named these, once another one does: the rule's own plan, and
the budget that a decoder has at first."""


def initial(cluster: Cluster) -> Decision:
    """What stands before anybody has ordered anything."""
    shape = (1, len(cluster.functions))
    zero, never = np.zeros(shape), np.full(shape, np.inf)
    none = np.zeros(shape, np.int32)
    return Decision(
        keep_alive_s=never, host_keep_alive_s=zero, runtime_keep_alive_s=zero,
        sandbox_keep_alive_s=zero, prewarm=none, prewarm_host=none, prewarm_after_s=never,
        prewarm_keep_s=zero, eviction_score=zero, host_eviction_score=zero, min_batch=none + 1,
        batch_wait_s=zero, max_batch=np.array([[f.max_batch for f in cluster.functions]], np.int32),
        max_instances=np.full(shape, 2**31 - 1, np.int32), drop_head=none, gpu_class=none - 1,
    )  # fmt: skip


def overlay(below: Decision, above: Decision) -> Decision:
    """What `above` orders, and where it says nothing what `below` does."""
    said = {name: getattr(above, name) for name in (*PER_FUNCTION, "targets", "nodes_wanted")}
    return replace(below, **{name: value for name, value in said.items() if value is not None})


class TwoVoices:
    """Merges the orders of two deciders, each for its own functions.

    A decider that leaves a field as it is means its own last order. Orders that name GPUs or nodes
    are for the whole cluster and come from the second.

    Args:
        cluster: that the orders are for.
        first: functions of the first decider. Shape: (F,)
    """

    def __init__(self, cluster: Cluster, first: NDArray[np.bool_]) -> None:
        self._first = first[None, :]
        self._initial = initial(cluster)
        self._standing = [self._initial, self._initial]

    def merge(self, first: Decision, second: Decision) -> Decision:
        """Return the orders that change anything for anybody."""
        merged: dict[str, Any] = {}
        for name in PER_FUNCTION:
            said = [getattr(first, name), getattr(second, name)]
            if all(order is None for order in said):
                continue
            both = [self._stands(k, name) if s is None else s for k, s in enumerate(said)]
            merged[name] = np.where(self._first, both[0], both[1])
        self._standing = [
            overlay(stood, said)
            for stood, said in zip(self._standing, (first, second), strict=True)
        ]
        return Decision(**merged, targets=second.targets, nodes_wanted=second.nodes_wanted)

    def _stands(self, who: int, name: str) -> Any:
        stood = getattr(self._initial if name in ONE_SHOT else self._standing[who], name)
        return SILENT[name] if stood is None else stood
