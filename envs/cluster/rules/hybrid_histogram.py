"""Hybrid histogram ("Serverless in the Wild", ATC 2020, section 4).

Rule: histogram of idle times, one-minute bins, four hours. If more than half are out of bounds or
the bin counts are not concentrated (CV < 2): keep for four hours. Else unload, load again at 0.9 x
the 5th percentile (rounded down to its bin) and keep until 1.1 x the 99th (rounded up).
Follows the paper with two stated differences: where it fits an ARIMA model (more than half out of
bounds) the conservative branch is taken, and the keep-alive window ends at 1.1 x tail, so its
length is 1.1 tail - 0.9 head. A head of less than one bin means no unloading.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.rules.params import (
    HYBRID_CV,
    HYBRID_HEAD,
    HYBRID_MARGIN,
    HYBRID_MINUTE,
    HYBRID_PREWARM,
    HYBRID_TAIL,
)
from stoker.envs.cluster.tables import f8_at, fn_at, hybrid_at

BINS = 240


@njit
def hybrid_gap(r, f, gap):
    """Count an idle time."""
    h = hybrid_at(r["hybrid"], f)
    k = int(gap / f8_at(r["param"], HYBRID_MINUTE)["v"])
    h["total"] += 1
    if k >= BINS:
        h["oob"] += 1
    else:
        h["count"][k] += 1


@njit
def _variation(h):
    """Standard deviation over mean of the bin counts."""
    mean = (h["total"] - h["oob"]) / BINS
    spread = 0.0
    for k in range(BINS):
        spread += (h["count"][k] - mean) ** 2
    return math.sqrt(spread / BINS) / mean if mean > 0.0 else 0.0


@njit
def _percentile(h, share):
    """First bin up to which `share` of the counted idle times lie."""
    wanted = share * (h["total"] - h["oob"])
    seen = 0
    for k in range(BINS):
        seen += h["count"][k]
        if seen > 0 and seen >= wanted:
            return k
    return BINS - 1


@njit
def hybrid_plan(r, f):
    """Set keep-alive and prewarm of f, which has just become idle."""
    h = hybrid_at(r["hybrid"], f)
    fn = fn_at(r["fn"], f)
    minute = f8_at(r["param"], HYBRID_MINUTE)["v"]
    fn["prewarm_after_s"] = math.inf
    fn["keep_alive_s"] = BINS * minute
    if 2 * h["oob"] > h["total"] or _variation(h) < f8_at(r["param"], HYBRID_CV)["v"]:
        return
    margin = f8_at(r["param"], HYBRID_MARGIN)["v"]
    head = _percentile(h, f8_at(r["param"], HYBRID_HEAD)["v"]) * minute * (1.0 - margin)
    tail = (_percentile(h, f8_at(r["param"], HYBRID_TAIL)["v"]) + 1) * minute * (1.0 + margin)
    if head <= 0.0 or f8_at(r["param"], HYBRID_PREWARM)["v"] == 0.0:
        fn["keep_alive_s"] = tail
        return
    fn["keep_alive_s"] = 0.0
    fn["prewarm_after_s"] = head
    fn["prewarm_keep_s"] = tail - head
