"""Replicas that share a device compute in turn, a batch each, first come, first served.

The memory of co-resident replicas is shared (memory.py), the computation too: while another waits,
a replica runs one iteration and goes to the back of the queue.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.fleet.cut import cut
from stoker.envs.cluster.llm.fleet.scaling import note_idle
from stoker.envs.cluster.llm.fleet.tables import (
    QUEUED,
    device_at,
    f8_at,
    replica_at,
    row_at,
)
from stoker.envs.cluster.llm.tables import NONE


@njit
def _queue(f, d, k):
    """Put a replica at the end of those that wait for the device."""
    p = replica_at(f["replica"], k)
    p["state"], p["behind"] = QUEUED, NONE
    f8_at(f["next_s"], k)["v"] = math.inf
    if d["head"] == NONE:
        d["head"] = k
    else:
        replica_at(f["replica"], d["tail"])["behind"] = k
    d["tail"] = k


@njit
def claim(f, k):
    """Take the device, or a place in its queue. Returns whether it was free."""
    p = replica_at(f["replica"], k)
    if p["device"] == NONE:
        return True
    d = device_at(f["device"], p["device"])
    if d["holder"] == NONE:
        d["holder"] = k
        return True
    _queue(f, d, k)
    cut(f, d["holder"])
    return False


@njit
def next_in_turn(f, device):
    """Take the first out of a device's queue, to hold it now; NONE if none waits."""
    d = device_at(f["device"], device)
    k = d["head"]
    if k != NONE:
        d["head"] = replica_at(f["replica"], k)["behind"]
    d["holder"] = k
    return k


@njit
def has_work(f, k):
    """Whether a replica between batches has anything to do."""
    r = row_at(f["rows"], k)
    return r["running"] + r["waiting"] > 0 or replica_at(f["replica"], k)["inbox"] != NONE


@njit
def pass_on(f, k):
    """Give the device to the next in its queue; returns who has it now."""
    d = device_at(f["device"], replica_at(f["replica"], k)["device"])
    if d["head"] == NONE:
        return k
    if has_work(f, k):
        _queue(f, d, k)
    else:
        note_idle(f, k)
    return next_in_turn(f, replica_at(f["replica"], k)["device"])
