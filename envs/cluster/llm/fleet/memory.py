"""Memory of a device that several replicas share: weights, and blocks granted beside them.

Rule: what the weights of all residents leave is split into equal parts, in bytes, whenever one
loads or leaves; a resident that holds more than its part in use keeps what it holds, and the
others split the rest. Nothing in use is taken, and no grant is below the blocks of one request of
`max_tokens`, so that what was accepted can always be served. A replica whose weights and least
grant do not fit beside what is in use is not loaded; residents without requests leave to make room,
the least recently used first, but only if that suffices.

Units: bytes of one GPU, blocks.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.fleet.cut import cut
from stoker.envs.cluster.llm.fleet.tables import (
    BUSY,
    DOWN,
    IDLE,
    WANTED,
    device_at,
    replica_at,
    row_at,
)
from stoker.envs.cluster.llm.stretch import growth_until
from stoker.envs.cluster.llm.tables import NONE


@njit
def _is_on(f, k, device):
    """Whether a replica takes memory of the device."""
    p = replica_at(f["replica"], k)
    return p["device"] == device and p["state"] != DOWN and p["state"] != WANTED


@njit
def _may_leave(p):
    """Whether a replica has no requests at all."""
    return p["state"] == IDLE and p["inbox"] == NONE


@njit
def free_blocks(f, k):
    """Free blocks of a replica at the present."""
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    if p["state"] != BUSY:
        return r["free"]
    return r["free"] - growth_until(r, p["steps"], f["now"] - p["start"])


@njit
def _floor_bytes(f, k):
    """Bytes of blocks that must stay with a resident: in use by its iteration, or its least."""
    p = replica_at(f["replica"], k)
    held = row_at(f["rows"], k)["num_blocks"] - free_blocks(f, k)
    return max(held, p["least_blocks"]) * p["block_bytes"]


@njit
def resident_bytes(f, k):
    """Bytes that a resident cannot do without."""
    return replica_at(f["replica"], k)["weight_bytes"] + _floor_bytes(f, k)


@njit
def excess_bytes(f, k, emptied):
    """Bytes that lack for a replica beside the others; `emptied`: if all idle ones left."""
    p = replica_at(f["replica"], k)
    taken = p["weight_bytes"] + p["least_blocks"] * p["block_bytes"]
    for j in range(f["replicas"]):
        if _is_on(f, j, p["device"]):
            other = replica_at(f["replica"], j)
            if not (emptied and _may_leave(other)):
                taken += resident_bytes(f, j)
    return taken - device_at(f["device"], p["device"])["budget"]


@njit
def victim(f, k):
    """The idle resident of k's device that was used least recently; there is one."""
    device, best, used = replica_at(f["replica"], k)["device"], NONE, math.inf
    for j in range(f["replicas"]):
        p = replica_at(f["replica"], j)
        if _is_on(f, j, device) and _may_leave(p) and p["used"] < used:
            best, used = j, p["used"]
    return best


@njit
def _set_blocks(f, k, count):
    """Grant a replica so many blocks; what it holds stays with it."""
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    p["peak_blocks"] = max(p["peak_blocks"], r["num_blocks"] - r["least_free"])
    r["free"] += count - r["num_blocks"]
    r["num_blocks"] = count
    r["least_free"] = r["free"]
    r["watermark"] = int(p["margin"] * count)


@njit
def _fix_floors(f, device, left, n):
    """Set those apart whose floor is above an equal part; returns bytes and number of the rest."""
    again = True
    while again and n > 0:
        again = False
        for k in range(f["replicas"]):
            p = replica_at(f["replica"], k)
            if _is_on(f, k, device) and not p["fixed"] and p["floor"] * n > left:
                p["fixed"] = 1
                left -= p["floor"]
                n -= 1
                again = True
    return left, n


@njit
def regrant(f, device):
    """Split the memory of a device anew."""
    d = device_at(f["device"], device)
    left, n = d["budget"], 0
    for k in range(f["replicas"]):
        if _is_on(f, k, device):
            p = replica_at(f["replica"], k)
            left -= p["weight_bytes"]
            n += 1
            if p["state"] == BUSY:
                cut(f, k)
            p["floor"], p["fixed"] = _floor_bytes(f, k), 0
    left, n = _fix_floors(f, device, left, n)
    granted = 0.0
    for k in range(f["replicas"]):
        if _is_on(f, k, device):
            p = replica_at(f["replica"], k)
            part = p["floor"] if p["fixed"] else left / n
            count = int(part / p["block_bytes"])
            _set_blocks(f, k, count)
            granted += p["weight_bytes"] + count * p["block_bytes"]
    d["most"] = max(d["most"], granted)
