"""The eviction order of each host memory and disk: the copies that no load reads, lowest key first.

A binary heap a store, by (key, function): the victim is found in O(1), and a copy comes and goes in
O(log n) of the copies there.  Stores: n = host memory of node n, M + n = its disk.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import NONE, kept_at, store_at


@njit
def kept_of(r, s, f):
    """The standing of function f's copy in store s."""
    return kept_at(r["kept"], s * r["fns"] + f)


@njit
def listed_copy(r, s, k):
    """Function at place k of store s."""
    return kept_at(r["kept"], s * r["fns"] + k)["fn"]


@njit
def _place(r, s, k, f):
    kept_at(r["kept"], s * r["fns"] + k)["fn"] = f
    kept_of(r, s, f)["pos"] = k


@njit
def leaves_before(r, s, f, g):
    """Whether f's copy goes before g's; of equal keys that of the lower number."""
    a, b = kept_of(r, s, f)["key"], kept_of(r, s, g)["key"]
    return a < b or (a == b and f < g)


@njit
def _sift(r, s, k):
    """Move the function at place k to where it belongs, up or down."""
    f = listed_copy(r, s, k)
    n = store_at(r["store"], s)["listed"]
    while k > 0 and leaves_before(r, s, f, listed_copy(r, s, (k - 1) >> 1)):
        _place(r, s, k, listed_copy(r, s, (k - 1) >> 1))
        k = (k - 1) >> 1
    while 2 * k + 1 < n:
        child = 2 * k + 1
        if child + 1 < n:
            right = listed_copy(r, s, child + 1)
            child += leaves_before(r, s, right, listed_copy(r, s, child))
        if not leaves_before(r, s, listed_copy(r, s, child), f):
            break
        _place(r, s, k, listed_copy(r, s, child))
        k = child
    _place(r, s, k, f)


@njit
def list_copy(r, s, f):
    """The copy of f may leave store s from now on, in the order of its key."""
    store = store_at(r["store"], s)
    _place(r, s, store["listed"], f)
    store["listed"] += 1
    _sift(r, s, store["listed"] - 1)


@njit
def unlist_copy(r, s, f):
    """The copy of f may not leave store s (a load reads it), or has left it."""
    kept = kept_of(r, s, f)
    k = kept["pos"]
    if k == NONE:
        return
    kept["pos"] = NONE
    store = store_at(r["store"], s)
    store["listed"] -= 1
    if k != store["listed"]:
        _place(r, s, k, listed_copy(r, s, store["listed"]))
        _sift(r, s, k)


@njit
def set_key(r, s, f, key):
    """Give f's copy in store s another key, whether it is listed or not."""
    kept = kept_of(r, s, f)
    kept["key"] = key
    if kept["pos"] != NONE:
        _sift(r, s, kept["pos"])


@njit
def next_to_leave(r, s):
    """The function whose copy leaves store s first, or NONE."""
    return listed_copy(r, s, 0) if store_at(r["store"], s)["listed"] > 0 else NONE
