"""What is remembered of each function's traffic: rates, gap histograms, last gaps.

Updated by the same compiled code in the simulator and in the runtime. A *gap* is the time from the
instant at which a function becomes idle (nothing queued or in service) to its next arrival. Gaps
are binned: bin 0 is below `first_bin`, every further bin is 15 % wider, the last one is open.
Histograms forget: each new gap scales the older ones by a decay (done by growing the unit of new
counts instead of shrinking the old ones).  Units: seconds, 1/s.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.rules.params import FAST_DECAY, SLOW_DECAY
from stoker.envs.cluster.tables import AGES, NONE, f8_at, fn_at, i4_at

GROWTH = 1.15
LOG_GROWTH = math.log(GROWTH)
RATE_WINDOWS_S = (10.0, 60.0, 600.0, 3600.0)
BIG = 1e12


@njit
def bin_of(first_bin, gap):
    """Bin of a gap or age."""
    if gap < first_bin:
        return 0
    if gap == math.inf:  # no integer stands for it
        return AGES - 1
    k = int(math.log(gap / first_bin) / LOG_GROWTH) + 1
    return min(k, AGES - 1)


def bin_edges(first_bin_s: float) -> NDArray[np.float64]:
    """Edges of the bins: bin k lies between edge k and edge k + 1. Shape: (73,)"""
    edges = first_bin_s * GROWTH ** np.arange(-1.0, AGES)
    edges[0] = 0.0
    return edges


@njit
def _count(r, fn, k):
    """Add one gap to the three histograms."""
    fn["slow_unit"] /= f8_at(r["param"], SLOW_DECAY)["v"]
    fn["fast_unit"] /= f8_at(r["param"], FAST_DECAY)["v"]
    fn["slow"][k] += fn["slow_unit"]
    fn["slow_sum"] += fn["slow_unit"]
    fn["fast"][k] += fn["fast_unit"]
    fn["fast_sum"] += fn["fast_unit"]
    if fn["slow_unit"] > BIG or fn["fast_unit"] > BIG:
        for j in range(AGES):
            fn["slow"][j] /= fn["slow_unit"]
            fn["fast"][j] /= fn["fast_unit"]
        fn["slow_sum"] /= fn["slow_unit"]
        fn["fast_sum"] /= fn["fast_unit"]
        fn["slow_unit"] = 1.0
        fn["fast_unit"] = 1.0
    weight = 1.0 / math.sqrt(fn["gaps"])
    r["prior"][k] += weight
    r["prior_sum"] += weight


@njit
def on_gap(r, f, gap):
    """Learn from the gap that an arrival has just ended."""
    fn = fn_at(r["fn"], f)
    fn["gaps"] += 1
    fn["prev_gap"] = fn["gap"]
    fn["gap"] = gap
    if r["oracle"] == 0:
        _count(r, fn, bin_of(r["first_bin"], gap))


@njit
def put_back(r, f):
    """Oracle mode: the gap that was left out has ended."""
    fn = fn_at(r["fn"], f)
    k = fn["left_out"]
    if k != NONE:
        fn["slow"][k] += 1.0
        fn["slow_sum"] += 1.0
        fn["left_out"] = NONE


@njit
def foresee(r, f):
    """Oracle mode: the histogram holds the whole trace; leave the gap that begins now out."""
    put_back(r, f)
    fn = fn_at(r["fn"], f)
    k = i4_at(r["oracle"], fn["foreseen"] + fn["arrivals"])["v"]
    if k != NONE:
        fn["slow"][k] -= 1.0
        fn["slow_sum"] -= 1.0
    fn["left_out"] = k


@njit
def on_arrival(r, f, t):
    """Bring the arrival rates of f up to date with one more arrival at t."""
    fn = fn_at(r["fn"], f)
    dt = t - fn["last_arrival"]
    for k in range(4):
        window = RATE_WINDOWS_S[k] * r["first_bin"] / 3.0
        kept = fn["rate"][k] * math.exp(-dt / window) if fn["arrivals"] > 0 else 0.0
        fn["rate"][k] = kept + 1.0 / window
