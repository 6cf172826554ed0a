"""When a node that drains goes off, and the memory that is off with it.  Units: bytes, seconds."""

from __future__ import annotations

from stoker.envs.cluster.bill import touch_price
from stoker.envs.cluster.host_tier import copy_of, drop_host
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.layers import drop_layer
from stoker.envs.cluster.tables import (
    COMING,
    DRAINING,
    OFF,
    THERE,
    UP,
    gpu_at,
    node_at,
)


@njit
def count_off(r, t):
    """Recount the device memory of the nodes that are off or come up: it is not free."""
    touch_price(r, t)
    total = 0
    for g in range(r["gpus"]):
        gpu = gpu_at(r["gpu"], g)
        state = node_at(r["node"], gpu["node"])["state"]
        if state != UP and state != DRAINING:
            total = r["cap"] if gpu["cap"] >= r["cap"] - total else total + gpu["cap"]
    r["off"] = total


@njit
def part(r, n, t):
    """Node n goes off, with copies and layers, if it drains and nothing is on it any more."""
    node = node_at(r["node"], n)
    if node["state"] != DRAINING:
        return
    for g in range(r["gpus"]):
        gpu = gpu_at(r["gpu"], g)
        if gpu["node"] == n and gpu["resident"] > 0:
            return
    for f in range(r["fns"]):
        if copy_of(r, n, f)["state"] == COMING:
            return
    for f in range(r["fns"]):
        if copy_of(r, n, f)["state"] == THERE:
            drop_host(r, n, f, t, True)
    if r["images"] > 0:
        while drop_layer(r, n, t):
            pass
    node["state"] = OFF
    node["up_s"] += t - node["up_t"]
    count_off(r, t)
