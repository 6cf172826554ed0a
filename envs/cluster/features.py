"""What is remembered of each function's traffic: rates, gap histograms, last gaps.

Updated by the same compiled code in the simulator and in the runtime. A *gap* is the time from the
instant at which a function becomes idle (nothing queued or in service) to its next arrival. Gaps
are binned: bin 0 is below `first_bin`, five further bins double it and so on (each is 15 % wider
than the one before), the last one is open.
Histograms forget: each new gap scales the older ones by a decay (done by growing the unit of new
counts instead of shrinking the old ones).  Units: seconds, 1/s.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.envs.cluster.bits import exponent_of, fraction_of
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.rules.params import FAST_DECAY, SLOW_DECAY
from stoker.envs.cluster.tables import AGES, NONE, f8_at, fn_at, i4_at

OCTAVE = 5
"""Bins in which ages double."""
STEPS = tuple(2.0 ** (k / OCTAVE) for k in range(1, OCTAVE))
UNIT_EDGE = 2.0 ** (np.arange(-1.0, AGES) / OCTAVE)
UNIT_EDGE[0] = 0.0
UNIT_WIDTH = np.diff(UNIT_EDGE)
"""Edges and widths of the bins where the first one is 1 wide; bin k is from edge k to edge k + 1.
Shapes: (73,), (72,)"""
RATE_WINDOWS_S = (10.0, 60.0, 600.0, 3600.0)
BIG = 1e12


@njit
def bin_of(first_bin, gap):
    """Bin of a gap or age."""
    if gap < first_bin:
        return 0
    if gap == math.inf:  # no integer stands for it
        return AGES - 1
    age = gap / first_bin
    m = fraction_of(age)
    k = OCTAVE * int(exponent_of(age)) + 1
    k = min(k + (m >= STEPS[0]) + (m >= STEPS[1]) + (m >= STEPS[2]) + (m >= STEPS[3]), AGES - 1)
    if gap < first_bin * UNIT_EDGE[k]:  # the quotient was rounded up to an edge, or down
        return k - 1
    if k < AGES - 1 and gap >= first_bin * UNIT_EDGE[k + 1]:
        return k + 1
    return k


@njit
def _add(counts, k, amount):
    """Add to a bin; return what that adds to the sum of the bins, which are float32."""
    before = np.float64(counts[k])
    counts[k] += amount
    return np.float64(counts[k]) - before


@njit
def _shrink(counts, unit):
    """Count in new units; return the sum of the bins."""
    total = 0.0
    for k in range(AGES):
        counts[k] /= unit
        total += np.float64(counts[k])
    return total


@njit
def _count(r, fn, k):
    """Add one gap to the three histograms."""
    fn["slow_unit"] /= f8_at(r["param"], SLOW_DECAY)["v"]
    fn["fast_unit"] /= f8_at(r["param"], FAST_DECAY)["v"]
    fn["slow_sum"] += _add(fn["slow"], k, fn["slow_unit"])
    fn["fast_sum"] += _add(fn["fast"], k, fn["fast_unit"])
    if fn["slow_unit"] > BIG or fn["fast_unit"] > BIG:
        fn["slow_sum"] = _shrink(fn["slow"], fn["slow_unit"])
        fn["fast_sum"] = _shrink(fn["fast"], fn["fast_unit"])
        fn["slow_unit"] = 1.0
        fn["fast_unit"] = 1.0
    r["prior_sum"] += _add(r["prior"], k, 1.0 / math.sqrt(fn["gaps"]))


@njit
def on_gap(r, f, gap, k):
    """Learn from the gap, in bin k, that an arrival has just ended."""
    fn = fn_at(r["fn"], f)
    fn["gaps"] += 1
    fn["gap"] = gap
    fn["prev_bin"] = fn["gap_bin"]
    fn["gap_bin"] = k
    if r["oracle"] == 0:
        _count(r, fn, k)


@njit
def put_back(r, f):
    """Oracle mode: the gap that was left out has ended."""
    fn = fn_at(r["fn"], f)
    k = fn["left_out"]
    if k != NONE:
        fn["slow_sum"] += _add(fn["slow"], k, 1.0)
        fn["left_out"] = NONE


@njit
def foresee(r, f):
    """Oracle mode: the histogram holds the whole trace; leave the gap that begins now out."""
    put_back(r, f)
    fn = fn_at(r["fn"], f)
    k = i4_at(r["oracle"], fn["foreseen"] + fn["arrivals"])["v"]
    if k != NONE:
        fn["slow_sum"] += _add(fn["slow"], k, -1.0)
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
