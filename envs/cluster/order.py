"""The eviction order of each GPU: the functions resident on it, lowest priority first.

For heap rules (lru, greedy_dual, freq, size, lfu, landlord, greedy_dual_two_tier) it is a binary
heap whose keys may lag behind a function's priority as long as they are lower; they are corrected
when they reach the top, so an ordinary warm start touches no heap. For scanning rules (score,
hazard) it is a plain list, and each function's score is kept for as long as it stands.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.tables import NONE, fn_at, gf_at, gpu_at, inst_at, order_at

FIRST_SCAN = 7
"""Code of the first scanning rule; those before it go by priority."""


@hot
def slot_of(r, g, f):
    """The record of function f on GPU g."""
    return gf_at(r["gf"], g * r["fns"] + f)


@njit
def place_of(r, g, k):
    """The record of place k of GPU g's order."""
    return order_at(r["order"], g * r["fns"] + k)


@njit
def listed_fn(r, g, k):
    """Function at place k of GPU g's order."""
    return place_of(r, g, k)["fn"]


@njit
def place(r, g, k, f):
    """Put function f at place k."""
    place_of(r, g, k)["fn"] = f
    slot_of(r, g, f)["pos"] = k


@hot
def sift_up(r, g, k):
    """Move the function at place k towards the top."""
    f = listed_fn(r, g, k)
    key = slot_of(r, g, f)["key"]
    while k > 0:
        up = (k - 1) >> 1
        other = listed_fn(r, g, up)
        if slot_of(r, g, other)["key"] <= key:
            break
        place(r, g, k, other)
        k = up
    place(r, g, k, f)


@hot
def sift_down(r, g, k, n):
    """Move the function at place k towards the bottom of the first n places."""
    f = listed_fn(r, g, k)
    key = slot_of(r, g, f)["key"]
    while True:
        child = 2 * k + 1
        if child >= n:
            break
        if child + 1 < n:
            right = slot_of(r, g, listed_fn(r, g, child + 1))["key"]
            if right < slot_of(r, g, listed_fn(r, g, child))["key"]:
                child += 1
        other = listed_fn(r, g, child)
        if slot_of(r, g, other)["key"] >= key:
            break
        place(r, g, k, other)
        k = child
    place(r, g, k, f)


@hot
def _forget_score(r, g, k, idle):
    """The score at place k must be read anew; where nothing is idle it is out of the running."""
    if r["eviction"] < FIRST_SCAN:
        return
    at = place_of(r, g, k)
    at["score"] = math.inf
    at["until"] = -math.inf if idle > 0 else math.inf


@hot
def enlist(r, g, f):
    """Add a function that has become resident on GPU g."""
    gpu = gpu_at(r["gpu"], g)
    slot_of(r, g, f)["key"] = fn_at(r["fn"], f)["prio"]
    place(r, g, gpu["listed"], f)
    _forget_score(r, g, gpu["listed"], 0)
    gpu["listed"] += 1
    sift_up(r, g, gpu["listed"] - 1)


@hot
def delist(r, g, f):
    """Remove a function that has left GPU g."""
    gpu = gpu_at(r["gpu"], g)
    k = slot_of(r, g, f)["pos"]
    slot_of(r, g, f)["pos"] = NONE
    gpu["listed"] -= 1
    n = gpu["listed"]
    if k != n:
        last, hole = place_of(r, g, n), place_of(r, g, k)
        hole["score"], hole["until"] = last["score"], last["until"]
        place(r, g, k, last["fn"])
        sift_up(r, g, k)
        sift_down(r, g, slot_of(r, g, listed_fn(r, g, k))["pos"], n)


@njit
def lower(r, f):
    """Bring f's keys down after its priority has fallen (a rise may lag, a fall may not)."""
    prio = fn_at(r["fn"], f)["prio"]
    for g in range(r["gpus"]):
        slot = slot_of(r, g, f)
        if slot["pos"] != NONE and prio < slot["key"]:
            slot["key"] = prio
            sift_up(r, g, slot["pos"])


@njit
def rescore(r, f):
    """Have the score of f read anew: its index, its orders or the start of its age have changed."""
    fn = fn_at(r["fn"], f)
    fn["index_valid"] = 0
    if r["eviction"] < FIRST_SCAN:
        return
    i = fn["open_head"]
    while i != NONE:
        j = i
        while j != NONE:  # on each GPU that it spans
            part = inst_at(r["inst"], j)
            slot = slot_of(r, part["gpu"], f)
            _forget_score(r, part["gpu"], slot["pos"], slot["idle"])
            j = part["shard"]
        i = inst_at(r["inst"], i)["next"]


@hot
def count_idle(r, g, f, change):
    """One idle instance of f more (1) or less (-1) on GPU g."""
    slot = slot_of(r, g, f)
    slot["idle"] += change
    if change > 0 or slot["idle"] == 0:
        _forget_score(r, g, slot["pos"], slot["idle"])
