"""Exact clairvoyant batching of one model on one device: most requests on time.

Batch of b takes alpha_s + beta_s * b, is not interrupted, and all requests have the same latency
target. By exchange, some best plan serves runs of consecutive requests, each refused one lying
between two batches, so with F[j][k] = least finish time when the first j requests are decided and
k of them are on time:

    F[j][k] = min(F[j-1][k], min over b of f(b)),
    f(b) = max(F[j-b][k-b], a_j) + p(b) if that is at most a_{j-b+1} + slo, else inf.

O(n * n * B) time, O(n * B) memory.

Shapes: n requests, B largest batch.  Units: seconds.
Source: a relative of the dynamic programs of Baptiste, "Batching identical jobs", Mathematical
Methods of Operations Research 2000.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from stoker.baselines.bounds.intervals import Floats


def most_on_time(
    arrival_s: Floats, *, alpha_s: float, beta_s: float, max_batch: int, slo_s: float
) -> int:
    """Count the requests that a clairvoyant batching plan completes within the target.

    Args:
        arrival_s: ascending. Shape: (n,)
        alpha_s: fixed part of a batch's time, >= 0.
        beta_s: part a request, >= 0.
        max_batch: largest batch, >= 1.
        slo_s: latency target, arrival to completion.
    """
    arrivals = np.asarray(arrival_s, np.float64)
    if len(arrivals) == 0:
        return 0
    finish = _finish_times(arrivals, alpha_s, beta_s, min(max_batch, len(arrivals)), slo_s)
    return int(np.flatnonzero(np.isfinite(finish))[-1])


@njit(cache=True)
def _finish_times(arrivals, alpha_s, beta_s, max_batch, slo_s):  # type: ignore[no-untyped-def]
    """Return F[n]; rows of the last `max_batch` requests are kept in a ring."""
    count = len(arrivals)
    ring = np.full((max_batch + 1, count + 1), np.inf)
    ring[0, 0] = -np.inf
    for j in range(1, count + 1):
        row = ring[j % (max_batch + 1)]
        row[:] = ring[(j - 1) % (max_batch + 1)]
        for b in range(1, min(max_batch, j) + 1):
            before = ring[(j - b) % (max_batch + 1)]
            takes = alpha_s + beta_s * b
            due = arrivals[j - b] + slo_s
            for k in range(b, j + 1):
                finish = max(before[k - b], arrivals[j - 1]) + takes
                if finish <= due and finish < row[k]:
                    row[k] = finish
    out = ring[count % (max_batch + 1)].copy()
    out[0] = 0.0
    return out
