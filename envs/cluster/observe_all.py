"""The cluster view's observation and books: every function of every row at one tick.

One row of the observation is flat: for each of S slots an `active` flag, the K features of
observe.py and the state of observe_state.py (zeros where the row has no such function), then the
features of the whole cluster.

Shapes: B rows, S slots, K features, C features of the cluster.  Units: seconds, GiB.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.bill import charge
from stoker.envs.cluster.host_tier import review_host
from stoker.envs.cluster.idle import TERMS, read_terms
from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.observe import FEATURES, FIRST_SHARED, K, observe_cluster, observe_own
from stoker.envs.cluster.observe_state import STATE, observe_state
from stoker.envs.cluster.tables import SCALAR_COUNT, fn_at, gpu_at

BOUND = 10.0
"""Observations are clipped at plus and minus this; nothing usual comes near."""
_NAMES = tuple(name for name, _ in FEATURES)
_COMMON = (
    "free", "evictable", "loading", "link_queue", "requests_waiting", "link_price", "price",
)  # fmt: skip
SHARED = tuple(_NAMES.index(name) for name in _COMMON)
"""Columns of the first function's row that describe the whole cluster."""
OWN = (
    ("gpu_free_most", "free share of the GPU with the most free memory"),
    ("gpu_free_least", "free share of the GPU with the least"),
    ("host_free", "free share of host memory; 0 without a host tier"),
    ("slo_target", "share of requests that should meet their latency target"),
    ("slo_multiplier", "Lagrange multiplier of the target: ln(1 + m) / 4"),
    ("late_share", "share of recent requests that were late or refused (decayed over an hour)"),
    ("day_sin", "sine of the time of day, the workload beginning at midnight"),
    ("day_cos", "its cosine"),
)
CLUSTER_FEATURES = (*(FEATURES[k] for k in SHARED), *OWN)
"""Name and meaning of the last columns."""
C = len(CLUSTER_FEATURES)
SLOT = 1 + K + len(STATE)
"""Columns of a slot."""
DAY_BINS = 86400.0 / 3.0
"""A day in first bins of the gap histograms, which shrink with compressed time."""
TICK = (*TERMS, "late", "requests", "held_gib_s")
"""What is read at a tick: costs in seconds of waiting, counts, GiB-seconds on the device."""


@njit
def _clip(row, first, last):
    for j in range(first, last):
        row[j] = min(max(row[j], -BOUND), BOUND)


@njit
def _books(r, f, own):
    """Read and reset what function f has cost since the last tick, see TICK. Shape: (9,)"""
    fn = fn_at(r["fn"], f)
    charge(r, f, r["now"])
    own[6] = fn["acc_late"] + fn["acc_drops"]
    own[7] = fn["acc_requests"]
    own[8] = fn["acc_gib_s"]
    read_terms(r, f, own)


@njit
def _cluster(r, row, first, slo):
    """Fill the columns of the whole cluster; the first function's are there already."""
    at = first
    for j in SHARED:
        row[at] = row[1 + j]
        at += 1
    most = 0.0
    least = 1.0
    for g in range(r["gpus"]):
        gpu = gpu_at(r["gpu"], g)
        free = 1.0 - gpu["used"] / gpu["cap"]
        most = max(most, free)
        least = min(least, free)
    row[at] = most
    row[at + 1] = least
    row[at + 2] = 1.0 - r["host_used"] / r["host_cap"] if r["host_cap"] > 0 else 0.0
    row[at + 3] = slo[0]
    row[at + 4] = math.log(1.0 + slo[1]) / 4.0
    row[at + 5] = slo[2]
    day = 2.0 * math.pi * r["now"] / (r["first_bin"] * DAY_BINS)
    row[at + 6] = math.sin(day)
    row[at + 7] = math.cos(day)


@entry
def observe_ticks(rows, which, slots, observation, tick, slo):
    """Describe rows `which`, and read and reset what they have cost since the last call.

    Args:
        rows: Shape: (B,)
        which: rows to describe. Shape: (N,)
        slots: functions a row has room for.
        observation: filled. Shape: (B, S * SLOT + C)
        tick: filled for every function, zeros in empty slots, see TICK. Shape: (B, S, 9)
        slo: target, multiplier, recent share of late requests. Shape: (B, 3)
    """
    width = SLOT
    for n in range(which.shape[0]):
        k = which[n]
        r = rows[k]
        row = observation[k]
        for f in range(r["fns"], slots):
            for j in range(9):
                tick[k, f, j] = 0.0
        for f in range(r["fns"]):
            row[f * width] = 1.0
            own = row[f * width + 1 : (f + 1) * width]
            observe_own(r, f, r["now"], own)
            observe_state(r, f, r["now"], own, K)
            _books(r, f, tick[k, f])
            if f == 0:
                observe_cluster(r, own)
            for j in range(FIRST_SHARED, SCALAR_COUNT):
                own[j] = row[1 + j]
            _clip(own, 0, SCALAR_COUNT)  # the histograms are shares
            _clip(own, K, width - 1)
        for j in range(r["fns"] * width, slots * width):
            row[j] = 0.0
        _cluster(r, row, slots * width, slo[k])
        _clip(row, slots * width, slots * width + C)


@entry
def expire_hosts(rows):
    """Drop the host copies whose function may not keep one any more."""
    for k in range(rows.shape[0]):
        r = rows[k]
        for f in range(r["fns"]):
            if fn_at(r["fn"], f)["hosts"] > 0:
                for n in range(r["nodes"]):
                    review_host(r, n, f, r["now"])
