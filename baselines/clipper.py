"""Clipper: the largest batch grows step by step until it takes longer than the target.

Source: Crankshaw et al., "Clipper: a low-latency online prediction serving system", NSDI 2017:
adaptive batching by additive increase and multiplicative decrease (a reduction by 10 %), and
delayed batching under light load. Follows the paper; it refuses nothing.

Rule: after a full batch that took at most the target the limit grows by `step`; after one that took
longer it shrinks by the factor `backoff`. A batch smaller than the limit waits until its head is
`delay` targets old, at the next decision.

Shapes: B rows, F functions.  Units: seconds.
"""

from __future__ import annotations

import numpy as np

from stoker.baselines.batch_policy import WAIT, BatchPolicy, Due, Floats, Ints, run_up_to
from stoker.envs.cluster.errors import require


class Clipper(BatchPolicy):
    """Additive increase, multiplicative decrease of the largest batch.

    Args:
        step: requests by which the limit grows.
        backoff: factor by which it shrinks.
        delay: how long a small batch waits for more, in latency targets.
        share: part of the latency target that a batch may take.
    """

    def __init__(
        self, step: float = 1.0, backoff: float = 0.9, delay: float = 0.0, share: float = 1.0
    ) -> None:
        require(step > 0.0, "policy.step", step, "> 0")
        require(0.0 < backoff < 1.0, "policy.backoff", backoff, "in (0, 1)")
        require(delay >= 0.0, "policy.delay", delay, ">= 0")
        require(share > 0.0, "policy.share", share, "> 0")
        self.step, self.backoff, self.delay, self.share = step, backoff, delay, share

    def reset(self, rows: int, functions: int) -> None:
        """Start every limit at one request."""
        self.limit: Floats = np.ones((rows, functions))
        self._full = np.zeros((rows, functions), np.bool_)

    def forget(self, row: int) -> None:
        """Start anew."""
        self.limit[row], self._full[row] = 1.0, False

    def act(self, due: Due) -> Ints:
        """Learn from the last batch, then fill the next one up to the limit."""
        at = np.arange(len(due.function)), due.function
        limit = self.limit[at]
        late = due.ran_s > self.share * due.slo_s
        changed = np.where(late, np.maximum(limit * self.backoff, 1.0), limit + self.step)
        limit = np.where(self._full[at], np.minimum(changed, due.max_batch), limit)
        most = np.floor(limit + 1e-9).astype(np.int64)
        enough = due.queued >= np.minimum(most, due.max_batch)
        runs = enough | (due.head_waited_s >= self.delay * due.slo_s)
        self.limit[at] = limit
        self._full[at] = runs & enough
        return np.where(runs, run_up_to(due, most), WAIT)
