"""The function's row of the observation: what a policy knows of one function at one instant.

Filled by the same compiled code in training, in simulation and in the runtime. Every figure is
scaled by a fixed documented constant and free of the size of the cluster; there is no absolute
clock. Units before scaling: seconds, GiB.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.bill import touch_price
from stoker.envs.cluster.features import bin_of
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.rules.hazard import MIN_GIB, forecast, index_of
from stoker.envs.cluster.tables import (
    AGES,
    FEATURE_COUNT,
    SCALAR_COUNT,
    fn_at,
    link_at,
    scratch_at,
)

COARSE = 24
"""Coarse bins: three bins of the gap histogram each."""
SCALARS = (
    ("rate_10s", "arrivals expected during one load at the rate of the last 10 s: ln, / 8"),
    ("rate_60s", "the same over 60 s"),
    ("rate_600s", "the same over 600 s"),
    ("rate_3600s", "the same over an hour"),
    ("last_gap", "bin of the last gap / 72"),
    ("previous_gap", "bin of the gap before / 72"),
    ("gaps", "gaps seen: ln(1 + n) / 8"),
    ("age", "bin of the time since the function became idle / 72"),
    ("load", "start-up time over the first bin: ln, / 4"),
    ("size", "share of the device memory that an instance takes: ln, / 8"),
    ("host", "1 = weights in some host memory"),
    ("gap_before_load", "forecast probability that the gap is shorter than a load"),
    ("gap_before_even", "the same for the break-even time at the present price"),
    ("gap_p10", "bin of the forecast's 10 % quantile / 72"),
    ("gap_p50", "of the median"),
    ("gap_p90", "of the 90 % quantile"),
    ("index", "hazard index: ln, / 8"),
    ("price", "rent plus online price of memory: ln, / 8"),
    ("index_over_price", "ln of their ratio / 8"),
    ("free", "free share of device memory"),
    ("evictable", "idle share of device memory"),
    ("loading", "loads in progress: ln(1 + n) / 4"),
    ("link_queue", "loads waiting for the disk links, over their slots: ln(1 + x) / 4"),
    ("requests_waiting", "requests in queues: ln(1 + n) / 8"),
    ("link_price", "loads, a slot, that recent loads found waiting: ln(1 + x) / 4"),
)
FEATURES = (
    *SCALARS,
    *((f"slow_{k}", f"share of coarse gap bin {k}, slowly decayed") for k in range(COARSE)),
    *((f"fast_{k}", f"share of coarse gap bin {k}, quickly decayed") for k in range(COARSE)),
)
"""Name and meaning of every column."""
K = FEATURE_COUNT
assert (len(FEATURES), len(SCALARS)) == (FEATURE_COUNT, SCALAR_COUNT)
FIRST_SHARED = 19
TINY = 1e-9


@njit
def _log(x, scale):
    return math.log(max(x, TINY)) / scale


@njit
def log_count(x, scale):
    """Scale a count: ln(1 + x) / scale."""
    return math.log(1.0 + x) / scale if x > 0 else 0.0


@njit
def _quantile(cdf, share):
    """Bin in which the forecast reaches a share, over the number of bins."""
    k = 0
    for j in range(1, AGES):  # all of them: counting has no branch to guess
        k += cdf[j] < share
    return k / AGES


@njit
def _coarse(counts, total, row, first):
    """A gap histogram's shares in coarse bins."""
    scale = 1.0 / total if total > 0.0 else 0.0
    for k in range(COARSE):
        row[first + k] = scale * (counts[3 * k] + counts[3 * k + 1] + counts[3 * k + 2])


@njit
def observe_cluster(r, row):
    """Fill the columns from FIRST_SHARED to the histograms: what all functions share."""
    row[19] = 1.0 - r["used"] / r["cap"]
    row[20] = r["evictable"] / r["cap"]
    row[21] = log_count(r["loads_now"], 4.0)
    waiting = 0
    slots = 0
    for n in range(r["nodes"]):
        disk = link_at(r["link"], n)
        waiting += disk["queued"] if disk["fifo"] else disk["active"]
        slots += disk["slots"]
    if r["live"]:  # real loads take no link of ours: those under way
        waiting = max(r["loads_now"] - (slots if link_at(r["link"], 0)["fifo"] else 0), 0)
    row[22] = log_count(waiting / slots, 4.0)
    row[23] = log_count(r["queued"], 8.0)
    row[24] = log_count(r["link_price"], 4.0)


@njit
def observe(r, f, t, row):
    """Fill `row` (Shape: (K,)) with the features of function f at t; the scratch is used."""
    observe_cluster(r, row)
    observe_own(r, f, t, row)


@njit
def observe_own(r, f, t, row):
    """Fill the columns that belong to function f alone."""
    fn = fn_at(r["fn"], f)
    touch_price(r, t)
    age = max(t - fn["last_idle"], 0.0) if fn["arrivals"] > 0 else 0.0
    load = max(fn["load_disk_s"], TINY)
    gib = max(fn["gib"], MIN_GIB)
    for k in range(4):
        row[k] = _log(fn["rate"][k] * load, 8.0)
    row[4] = fn["gap_bin"] / AGES
    row[5] = fn["prev_bin"] / AGES
    row[6] = log_count(fn["gaps"], 8.0)
    row[7] = bin_of(r["first_bin"], age) / AGES
    row[8] = _log(load / r["first_bin"], 4.0)
    row[9] = _log(fn["bytes"] * fn["gpus"] / r["cap"], 8.0)
    row[10] = 1.0 if fn["hosts"] > 0 else 0.0
    forecast(r, f)
    index = index_of(r, f, age)
    price = r["rent"] + r["price"]
    even = load / (gib * max(price, TINY))
    cdf = scratch_at(r["scratch"], 0)["cdf"]
    row[11] = cdf[bin_of(r["first_bin"], load)]
    row[12] = cdf[bin_of(r["first_bin"], even)]
    row[13] = _quantile(cdf, 0.1)
    row[14] = _quantile(cdf, 0.5)
    row[15] = _quantile(cdf, 0.9)
    row[16] = _log(index, 8.0)
    row[17] = _log(price, 8.0)
    row[18] = row[16] - row[17]
    _coarse(fn["slow"], fn["slow_sum"], row, SCALAR_COUNT)
    _coarse(fn["fast"], fn["fast_sum"], row, SCALAR_COUNT + COARSE)
