"""Who gets a request: one that comes, or one that lost its replica.

A request that can never be served is refused at once, and starts nothing. One that finds every
replica of its function lost (losses.py) has failed.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.engine import can_be_served
from stoker.envs.cluster.llm.fleet.inbox import hand, look_up
from stoker.envs.cluster.llm.fleet.routers.freeness import most_free
from stoker.envs.cluster.llm.fleet.routers.least_outstanding import least_outstanding
from stoker.envs.cluster.llm.fleet.routers.round_robin import round_robin
from stoker.envs.cluster.llm.fleet.scaling import ready, scaled_out
from stoker.envs.cluster.llm.fleet.tables import (
    FREENESS,
    LEAST_OUTSTANDING,
    ROUND_ROBIN,
    func_at,
    replica_at,
    route_at,
    row_at,
)
from stoker.envs.cluster.llm.fleet.token_migration import make_room
from stoker.envs.cluster.llm.tables import NONE, req_at


@njit
def _route(f, fn):
    """The replica that the rule chooses; NONE if all are down."""
    if f["router"] == ROUND_ROBIN:
        return round_robin(f, fn)
    if f["router"] == LEAST_OUTSTANDING:
        return least_outstanding(f, fn)
    if f["router"] == FREENESS:
        return most_free(f, fn)
    return NONE


@njit
def _place(f, q):
    """Hand a request to a replica, which it may start; or refuse it."""
    route, s = route_at(f["route"], q), req_at(f["req"], q)
    fn = func_at(f["func"], route["function"])
    k = _route(f, fn)
    # Replicas of a function differ in blocks at most, and all have those of `max_tokens`.
    if not can_be_served(row_at(f["rows"], fn["first"]), s):
        s["rejected"] = 1
        route["replica"] = k
        if k != NONE:
            look_up(f, k)
        return
    k = scaled_out(f, fn, k)
    route["replica"], route["decoder"] = k, NONE
    if k == NONE:
        route["failed"] = 1
        return
    p = replica_at(f["replica"], k)
    route["cold"] = not ready(p)
    hand(f, k, q)
    if p["device"] != NONE:
        make_room(f, p["device"])


@njit
def arrive(f):
    """Place the next request."""
    q = f["next_req"]
    f["next_req"] += 1
    f["now"] = req_at(f["req"], q)["arrival"]
    _place(f, q)


@njit
def redirect(f):
    """Place those that lost their replica, as if they came now."""
    while f["astray"] != NONE:
        q = f["astray"]
        f["astray"] = req_at(f["req"], q)["next"]
        _place(f, q)
