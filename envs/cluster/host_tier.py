"""Host copies: weights in a node's pinned host memory.  Units: seconds, bytes."""

from __future__ import annotations

import math

from stoker.envs.cluster.bill import charge, touch_host
from stoker.envs.cluster.effects import DROP_HOST, effect
from stoker.envs.cluster.events import HOST_EXPIRE, push
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.layers import drop_layer
from stoker.envs.cluster.tables import ABSENT, COMING, NONE, THERE, fn_at, nf_at, node_at


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
    copy["state"] = ABSENT
    copy["timer"] = math.inf
    fn["held_host"] -= fn["weights"]
    node_at(r["node"], n)["host_used"] -= fn["weights"]
    r["host_used"] -= fn["weights"]
    if r["live"] and tell:
        effect(r, DROP_HOST, NONE, f, NONE, n, 0)


@njit
def host_room(r, n, need, t):
    """Free `need` bytes on node n, parked layers first, then oldest copies; whether it could."""
    node = node_at(r["node"], n)
    if need > node["host_cap"]:
        return False
    while node["host_cap"] - node["host_used"] < need:
        if r["images"] > 0 and drop_layer(r, n, t):
            continue
        victim = NONE
        since = math.inf
        for f in range(r["fns"]):
            copy = copy_of(r, n, f)
            if copy["state"] == THERE and copy["busy"] == 0 and copy["since"] < since:
                victim = f
                since = copy["since"]
        if victim == NONE:
            return False
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
    set_host_expiry(r, n, f)


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
    if copy["since"] + fn_at(r["fn"], f)["host_keep_alive_s"] <= t:
        drop_host(r, n, f, t, True)
    else:
        set_host_expiry(r, n, f)
