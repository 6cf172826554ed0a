"""A model is swapped in for a number of requests, not for one.

Rule: a function without an instance, for which something would have to be evicted, gets memory only
once it has `order_required_requests` in its queue or its head has waited `order_max_wait_s`. Those
that may are served in the order in which they began to wait; those held back hold up nobody.
Not to be confused with Torpor's figure of the same name, the number of further requests that must
meet their target (Torpor, ATC 2025).  Units: seconds.
"""

from __future__ import annotations

from stoker.envs.cluster.events import ORDER, push
from stoker.envs.cluster.gpulet import has_part
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.placed import admits, standing
from stoker.envs.cluster.requests import head_arrival
from stoker.envs.cluster.rules.params import ORDER_MAX_WAIT, ORDER_REQUIRED_REQUESTS
from stoker.envs.cluster.sharing import bytes_on
from stoker.envs.cluster.span_placement import span_fits
from stoker.envs.cluster.tables import NONE, f8_at, fn_at, gpu_at


@njit
def _has_room(r, f):
    """Whether some GPU that f may use has free what f would take there."""
    fn = fn_at(r["fn"], f)
    if fn["gpus"] > 1:
        return span_fits(r, f, False)
    for g in range(r["gpus"]):
        gpu = gpu_at(r["gpu"], g)
        room = gpu["cap"] - gpu["used"] >= bytes_on(r, f, g)
        if gpu["spatial"] and not has_part(r, f, g):
            continue
        if room and admits(r, f, g, NONE):
            return True
    return False


@njit
def held_back(r, f, t):
    """Whether f may not be swapped in yet; sets the timer if so."""
    fn = fn_at(r["fn"], f)
    if standing(fn) > 0 or fn["queued"] >= f8_at(r["param"], ORDER_REQUIRED_REQUESTS)["v"]:
        return False
    due = head_arrival(r, f) + f8_at(r["param"], ORDER_MAX_WAIT)["v"]
    if t >= due or _has_room(r, f):
        return False
    if fn["order_timer"] != due:
        fn["order_timer"] = due
        push(r, due, ORDER, f, 0)
    return True
