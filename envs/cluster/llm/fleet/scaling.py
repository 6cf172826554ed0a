"""Replicas that come with demand and leave after their keep-alive.

Rule: a request that finds every replica of its function down, or each with `scale_at` requests,
starts the first that is down; that replica gets it. A replica without requests leaves when it has
been idle for its keep-alive. A replica that loads can be routed to: its requests wait.

Units: seconds.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.fleet.routers.least_outstanding import outstanding
from stoker.envs.cluster.llm.fleet.startup import start
from stoker.envs.cluster.llm.fleet.tables import (
    BUSY,
    DOWN,
    IDLE,
    LOST,
    QUEUED,
    device_at,
    f8_at,
    replica_at,
)
from stoker.envs.cluster.llm.tables import NONE


@njit
def ready(p):
    """Whether a replica's weights are on the device."""
    return p["state"] == IDLE or p["state"] == QUEUED or p["state"] == BUSY


@njit
def scaled_out(f, fn, k):
    """The replica to hand a request to, where the router chose k; NONE if all are lost."""
    down = NONE
    for j in range(fn["first"], fn["first"] + fn["count"]):
        state = replica_at(f["replica"], j)["state"]
        if state == DOWN:
            if down == NONE:
                down = j
        elif state != LOST and outstanding(f, j) < fn["scale_at"]:
            return k
    if down == NONE:
        return k
    start(f, down)
    return down


@njit
def loaded(f, k):
    """The weights of a replica are there."""
    p = replica_at(f["replica"], k)
    p["loading_s"] += p["load_s"]
    p["state"] = IDLE
    p["used"] = f["now"]


@njit
def note_idle(f, k):
    """A replica has nothing to do: it leaves after its keep-alive, and its device is free."""
    p = replica_at(f["replica"], k)
    p["state"] = IDLE
    f8_at(f["next_s"], k)["v"] = f["now"] + p["keep_s"]
    if p["device"] != NONE and device_at(f["device"], p["device"])["holder"] == k:
        device_at(f["device"], p["device"])["holder"] = NONE
