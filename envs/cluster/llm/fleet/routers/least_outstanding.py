"""Least outstanding: the replica with fewest requests waiting and running, the first of equals."""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.fleet.tables import DOWN, replica_at, row_at
from stoker.envs.cluster.llm.tables import NONE


@njit
def outstanding(f, k):
    """Requests handed to a replica that are neither done nor refused."""
    r = row_at(f["rows"], k)
    return replica_at(f["replica"], k)["handed"] - r["done"] - r["rejected"]


@njit
def least_outstanding(f, fn):
    """Replica of the function; NONE if all are down."""
    best, least = NONE, 2**62
    for k in range(fn["first"], fn["first"] + fn["count"]):
        if replica_at(f["replica"], k)["state"] <= DOWN:
            continue
        count = outstanding(f, k)
        if count < least:
            best, least = k, count
    return best
