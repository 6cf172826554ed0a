"""Host copies: weights in pinned host memory.  Units: seconds, bytes."""

from __future__ import annotations

import math

from stoker.envs.cluster.bill import charge, touch_host
from stoker.envs.cluster.effects import DROP_HOST, effect
from stoker.envs.cluster.events import HOST_EXPIRE, push
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import NONE, fn_at


@njit
def drop_host(r, f, t, tell):
    """Forget the host copy of f; `tell` the real backend unless a load has consumed it."""
    fn = fn_at(r["fn"], f)
    touch_host(r, t)
    charge(r, f, t)
    fn["host"] = 0
    fn["host_timer"] = math.inf
    fn["held_host"] = 0
    r["host_used"] -= fn["weights"]
    if r["live"] and tell:
        effect(r, DROP_HOST, NONE, f, NONE, 0, 0)


@njit
def host_room(r, need, t):
    """Free host memory for `need` bytes, oldest copies first; return whether there is room."""
    if need > r["host_cap"]:
        return False
    while r["host_cap"] - r["host_used"] < need:
        victim = NONE
        since = math.inf
        for f in range(r["fns"]):
            fn = fn_at(r["fn"], f)
            if fn["host"] == 1 and fn["host_busy"] == 0 and fn["host_since"] < since:
                victim = f
                since = fn["host_since"]
        if victim == NONE:
            return False
        drop_host(r, victim, t, True)
    return True


@njit
def hold_host(r, f, t):
    """Book a host copy of f (there is room)."""
    fn = fn_at(r["fn"], f)
    touch_host(r, t)
    charge(r, f, t)
    fn["host"] = 1
    fn["host_since"] = t
    fn["held_host"] = fn["weights"]
    r["host_used"] += fn["weights"]
    r["host_peak"] = max(r["host_peak"], r["host_used"])


@njit
def set_host_expiry(r, f):
    """Make sure that a timer will look at the host copy of f when its keep-alive ends."""
    fn = fn_at(r["fn"], f)
    at = max(fn["host_since"] + fn["host_keep_alive_s"], r["now"])
    if at < fn["host_timer"]:
        fn["host_timer"] = at
        push(r, at, HOST_EXPIRE, f, 0)


@njit
def expire_host(r, f, t):
    """Drop the host copy of f if its standing keep-alive has ended and no load reads it."""
    fn = fn_at(r["fn"], f)
    if fn["host"] != 1 or fn["host_busy"] > 0:
        return
    if fn["host_since"] + fn["host_keep_alive_s"] <= t:
        drop_host(r, f, t, True)
    else:
        set_host_expiry(r, f)
