"""Host copies: weights in a node's pinned host memory.  Units: seconds, bytes.

The copy that leaves a full host memory is that of least key under rule `host_eviction`, among those
that no load reads.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.bill import charge, touch_host
from stoker.envs.cluster.copy_order import (
    kept_of,
    leaves_before,
    list_copy,
    listed_copy,
    next_to_leave,
    set_key,
    unlist_copy,
)
from stoker.envs.cluster.effects import DROP_HOST, effect
from stoker.envs.cluster.events import HOST_EXPIRE, push
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.layers import drop_layer
from stoker.envs.cluster.placed import copies_change, copy_held, copy_surplus
from stoker.envs.cluster.rules.host_eviction import HOST_GREEDY_DUAL, HOST_SCORE, host_key
from stoker.envs.cluster.tables import ABSENT, COMING, NONE, THERE, fn_at, nf_at, node_at, store_at


@njit
def copy_of(r, n, f):
    """The record of function f's copy in the host memory of node n."""
    return nf_at(r["nf"], n * r["fns"] + f)


@njit
def drop_host(r, n, f, t, tell):
    """Forget f's copy on node n; `tell` the real backend unless a load has consumed it."""
    fn = fn_at(r["fn"], f)
    touch_host(r, n, t)
    charge(r, f, t)
    copy = copy_of(r, n, f)
    if copy["state"] == THERE:
        fn["hosts"] -= 1
    unlist_copy(r, n, f)
    copy["state"] = ABSENT
    copy["timer"] = math.inf
    if tell:
        copy["uses"] = 0.0
    if r["placing"]:
        copies_change(r, n, f, -1)
    fn["held_host"] -= fn["weights"]
    node_at(r["node"], n)["host_used"] -= fn["weights"]
    r["host_used"] -= fn["weights"]
    if r["live"] and tell:
        effect(r, DROP_HOST, NONE, f, NONE, n, 0)


@njit
def _next_loose(r, n):
    """The copy that leaves node n first among those that no floor needs, or NONE."""
    best = NONE
    for k in range(store_at(r["store"], n)["listed"]):
        f = listed_copy(r, n, k)
        if not copy_held(r, n, f) and (best == NONE or leaves_before(r, n, f, best)):
            best = f
    return best


@njit
def host_room(r, n, need, t):
    """Free `need` bytes on node n: parked layers go first, then copies by rule `host_eviction`.

    Return whether there is room.
    """
    node = node_at(r["node"], n)
    if need > node["host_cap"]:
        return False
    while node["host_cap"] - node["host_used"] < need:
        if r["images"] > 0 and drop_layer(r, n, t):
            continue
        victim = next_to_leave(r, n)
        if r["placing"] and victim != NONE and copy_held(r, n, victim):
            victim = _next_loose(r, n)
        if victim == NONE:
            return False
        if r["host_eviction"] == HOST_GREEDY_DUAL:
            node["host_clock"] = max(node["host_clock"], kept_of(r, n, victim)["key"])
        drop_host(r, n, victim, t, True)
    return True


@njit
def hold_host(r, n, f, t):
    """Book room on node n for a copy of f that is to come (there is room)."""
    fn = fn_at(r["fn"], f)
    node = node_at(r["node"], n)
    touch_host(r, n, t)
    charge(r, f, t)
    copy_of(r, n, f)["state"] = COMING
    if r["placing"]:
        copies_change(r, n, f, 1)
    fn["held_host"] += fn["weights"]
    node["host_used"] += fn["weights"]
    node["host_peak"] = max(node["host_peak"], node["host_used"])
    r["host_used"] += fn["weights"]


@njit
def arrive_host(r, n, f, t):
    """The copy of f on node n is complete."""
    copy = copy_of(r, n, f)
    copy["state"], copy["since"] = THERE, t
    fn_at(r["fn"], f)["hosts"] += 1
    set_key(r, n, f, host_key(r, n, f))
    list_copy(r, n, f)
    set_host_expiry(r, n, f)


@njit
def read_host(r, n, f):
    """A load is about to read f's copy on node n, which must stay meanwhile."""
    copy_of(r, n, f)["busy"] += 1
    unlist_copy(r, n, f)


@njit
def stop_reading_host(r, n, f, t):
    """A load that read f's copy on node n is lost."""
    copy = copy_of(r, n, f)
    copy["busy"] -= 1
    if copy["busy"] == 0:
        list_copy(r, n, f)
        review_host(r, n, f, t)


@njit
def rescore_host(r, f):
    """Function f may have another score: its copies take their new places."""
    if r["host_eviction"] == HOST_SCORE:
        for n in range(r["nodes"]):
            set_key(r, n, f, host_key(r, n, f))


@njit
def set_host_expiry(r, n, f):
    """Make sure that a timer will look at f's copy on node n when its keep-alive ends."""
    copy = copy_of(r, n, f)
    at = max(copy["since"] + fn_at(r["fn"], f)["host_keep_alive_s"], r["now"])
    if at < copy["timer"]:
        copy["timer"] = at
        push(r, at, HOST_EXPIRE, f, n)


@njit
def review_host(r, n, f, t):
    """Drop f's copy on node n if its standing keep-alive has ended, unless a load reads it."""
    copy = copy_of(r, n, f)
    if copy["state"] != THERE or copy["busy"] > 0:
        return
    if r["placing"] and copy_held(r, n, f):
        return
    over = copy["since"] + fn_at(r["fn"], f)["host_keep_alive_s"] <= t
    if over or (r["placing"] and copy_surplus(r, n, f)):
        drop_host(r, n, f, t, True)
    else:
        set_host_expiry(r, n, f)
