"""Start-up: a replica loads its weights before its first prompt can run, if there is memory.

Requests that were routed to it wait. On a shared device that has no room the replica waits until
a batch there ends or another leaves; those that want memory are served in their order of number.

Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.fleet.memory import excess_bytes, regrant, victim
from stoker.envs.cluster.llm.fleet.tables import (
    DOWN,
    LOADING,
    WANTED,
    device_at,
    f8_at,
    replica_at,
)
from stoker.envs.cluster.llm.tables import NONE


@njit
def leave(f, k):
    """An idle replica leaves; what shares its device gets its memory."""
    p = replica_at(f["replica"], k)
    p["state"] = DOWN
    p["up_s"] += f["now"] - p["since"]
    f8_at(f["next_s"], k)["v"] = math.inf
    if p["device"] != NONE:
        regrant(f, p["device"])


@njit
def load(f, k):
    """Begin to load the weights, for which there is room."""
    p = replica_at(f["replica"], k)
    p["state"], p["since"] = LOADING, f["now"]
    p["cold_starts"] += 1
    f8_at(f["next_s"], k)["v"] = f["now"] + p["load_s"]
    if p["device"] != NONE:
        regrant(f, p["device"])


@njit
def _try(f, k):
    """Load if there is room, or can be made of idle replicas; returns whether there was."""
    device = replica_at(f["replica"], k)["device"]
    if device != NONE:
        if excess_bytes(f, k, True) > 0.0:
            return False
        while excess_bytes(f, k, False) > 0.0:
            leave(f, victim(f, k))
            device_at(f["device"], device)["evictions"] += 1
    load(f, k)
    return True


@njit
def start(f, k):
    """Start a replica that is down, now or as soon as there is memory."""
    if _try(f, k):
        return
    p = replica_at(f["replica"], k)
    p["state"] = WANTED
    d = device_at(f["device"], p["device"])
    d["wanted"] += 1
    d["refusals"] += 1


@njit
def load_wanted(f, device):
    """Load what wants memory on a device, as far as there is room by now."""
    d = device_at(f["device"], device)
    if d["wanted"] == 0:
        return
    for k in range(f["replicas"]):
        p = replica_at(f["replica"], k)
        if p["device"] == device and p["state"] == WANTED:
            if not _try(f, k):
                return
            d["wanted"] -= 1
