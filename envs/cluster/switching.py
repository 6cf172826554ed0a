"""Another eviction rule on a cluster that runs: every GPU's order is put up anew."""

from __future__ import annotations

import math

from stoker.envs.cluster.eviction import priority
from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.order import FIRST_SCAN, listed_fn, place_of, sift_up, slot_of
from stoker.envs.cluster.tables import fn_at, gpu_at


@njit
def _reorder(r):
    by_priority = r["eviction"] < FIRST_SCAN
    for f in range(r["fns"]):
        fn = fn_at(r["fn"], f)
        fn["index_valid"] = 0
        # Equal keys leave the plain list of a scanning rule as it stands.
        last = max(fn["last_arrival"], fn["last_idle"])
        fn["prio"] = priority(r, f, last) if by_priority else 0.0
    for g in range(r["gpus"]):
        for k in range(gpu_at(r["gpu"], g)["listed"]):
            place, slot = place_of(r, g, k), slot_of(r, g, listed_fn(r, g, k))
            slot["key"] = fn_at(r["fn"], place["fn"])["prio"]
            place["score"] = math.inf
            place["until"] = -math.inf if slot["idle"] > 0 else math.inf
            sift_up(r, g, k)


@entry
def reorder_rows(rows):
    """The eviction rule of every row has just been written: order by it."""
    for k in range(rows.shape[0]):
        _reorder(rows[k])
