"""Nexus: drop early what would keep the batch behind it from being large and in time.

Source: Shen et al., "Nexus: a GPU cluster engine for accelerating DNN-based video analysis", SOSP
2019: early drop of its batch-aware dispatch, and the batch of its squishy bin packing for a model
that has a GPU to itself. Follows the paper.

Rule: the batch aimed at is the largest b with factor x p(b) <= target (factor 2: one batch runs
while the next one gathers). A window of that length slides over the queue to the first request
whose deadline the whole window can meet; what lies before is refused, and the window runs at once.

| paper | here |
| --- | --- |
| SLO | slo_s |
| l(b) | alpha_s + beta_s x b |
| batch size | _aim |

Shapes: B rows, W places of a queue.  Units: seconds.
"""

from __future__ import annotations

import numpy as np

from stoker.baselines.batch_policy import DROP, BatchPolicy, Due, Ints, run_up_to
from stoker.envs.cluster.errors import require


class Nexus(BatchPolicy):
    """Early drop by a sliding window.

    Args:
        factor: latency target over the time of the batch that is aimed at, >= 1.
    """

    def __init__(self, factor: float = 2.0) -> None:
        require(factor >= 1.0, "policy.factor", factor, ">= 1")
        self.factor = factor

    def act(self, due: Due) -> Ints:
        """Refuse the head if the first window in time begins behind it, else run the window."""
        aim = self._aim(due)
        place = np.arange(due.deadline_s.shape[1])
        size = np.minimum(aim[:, None], due.queued[:, None] - place)
        ends_s = due.now_s[:, None] + due.alpha_s[:, None] + due.beta_s[:, None] * size
        in_time = (size > 0) & (ends_s <= due.deadline_s)
        return np.where(in_time[:, 0], run_up_to(due, aim), DROP)

    def _aim(self, due: Due) -> Ints:
        """The batch aimed at, at least one. Shape: (B,)"""
        room_s = due.slo_s / self.factor - due.alpha_s
        largest = np.floor(room_s / np.maximum(due.beta_s, 1e-12) + 1e-9)
        aim: Ints = np.clip(largest, 1, due.max_batch).astype(np.int64)
        return aim
