"""Exact clairvoyant batching of one model on one device: most requests on time.

Batch of b takes alpha_s + beta_s * b, is not interrupted, and all requests have the same latency
target. By exchange, some best plan serves runs of consecutive requests, each refused one lying
between two batches, so with F[j][k] = least finish time when the first j requests are decided and
k of them are on time:

    F[j][k] = min(F[j-1][k], min over b of f(b)),
    f(b) = max(F[j-b][k-b], a_j) + p(b) if that is at most a_{j-b+1} + slo, else inf.

O(n * n * B) time, O(n * B) memory; n * n bytes more where the plan is asked for.

Shapes: n requests, B largest batch.  Units: seconds.
Source: a relative of the dynamic programs of Baptiste, "Batching identical jobs", Mathematical
Methods of Operations Research 2000.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from stoker.baselines.bounds.intervals import Floats
from stoker.envs.cluster.errors import SpecError

Batches = list[tuple[int, int]]
"""First request and size of each batch, in order."""
MOST = 255
"""Largest batch of a plan."""


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
    sizes = np.arange(1, min(max_batch, len(arrivals)) + 1)
    finish = _finish_times(arrivals, alpha_s, beta_s, sizes, slo_s, np.zeros((0, 0), np.uint8))
    return int(np.flatnonzero(np.isfinite(finish))[-1])


def best_plan(
    arrival_s: Floats, *, alpha_s: float, beta_s: float, sizes: Sequence[int], slo_s: float
) -> Batches:
    """Find batches that complete most requests within the target; the other requests are refused.

    Each batch starts as soon as the one before it has ended and its last request is there.

    Args:
        arrival_s: ascending. Shape: (n,)
        alpha_s: fixed part of a batch's time, >= 0.
        beta_s: part a request, >= 0.
        sizes: that a batch may have, ascending.
        slo_s: latency target, arrival to completion.
    """
    if sizes[-1] > MOST:
        raise SpecError("sizes", sizes[-1], f"<= {MOST}")
    arrivals, count = np.asarray(arrival_s, np.float64), len(arrival_s)
    allowed = np.array([b for b in sizes if b <= count], np.int64)
    if len(allowed) == 0:
        return []
    chosen = np.zeros((count + 1, count + 1), np.uint8)
    finish = _finish_times(arrivals, alpha_s, beta_s, allowed, slo_s, chosen)
    left, on_time = count, int(np.flatnonzero(np.isfinite(finish))[-1])
    batches: Batches = []
    while left > 0:
        size = int(chosen[left, on_time])
        if size > 0:
            batches.append((left - size, size))
        left, on_time = left - max(size, 1), on_time - size
    return batches[::-1]


@njit(cache=True)
def _finish_times(arrivals, alpha_s, beta_s, sizes, slo_s, chosen):  # type: ignore[no-untyped-def]
    """Return F[n]; rows of the last requests are kept in a ring.

    chosen: filled with the size of the last batch, 0 = the last request is refused. Shape: (n + 1,
    n + 1), or empty.
    """
    count, places = len(arrivals), sizes[-1] + 1
    ring = np.full((places, count + 1), np.inf)
    ring[0, 0] = -np.inf
    for j in range(1, count + 1):
        row = ring[j % places]
        row[:] = ring[(j - 1) % places]
        for b in sizes:
            if b > j:
                break
            before = ring[(j - b) % places]
            takes = alpha_s + beta_s * b
            due = arrivals[j - b] + slo_s
            for k in range(b, j + 1):
                finish = max(before[k - b], arrivals[j - 1]) + takes
                if finish <= due and finish < row[k]:
                    row[k] = finish
                    if len(chosen):
                        chosen[j, k] = b
    out = ring[count % places].copy()
    out[0] = 0.0
    return out
