"""Nodes that come up and go off as `Decision.nodes_wanted` says.

Of each class the nodes of lowest number are wanted. One that is not drains: it takes no new
instance and no new batch, what is idle leaves at once and to nowhere, what works (or loads, or has
claimed a turn on an exclusive GPU) finishes; then it is off and its host copies are lost. One that
is wanted again while it drains is up at once; one that is off comes up after its `boot_s`. One that
is to be preempted drains likewise, and one that is lost stays off, wanted or not (losses.py).

Units: seconds.
"""

from __future__ import annotations

from stoker.envs.cluster.events import NODE, push
from stoker.envs.cluster.instances import remove_instance
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.placed import unpin
from stoker.envs.cluster.power import count_off, part
from stoker.envs.cluster.tables import (
    BOOTING,
    DRAINING,
    NONE,
    OFF,
    READY,
    STARTING,
    UP,
    fn_at,
    gpu_at,
    inst_at,
    node_at,
)


@njit
def _is_on(inst, n):
    return inst["node"] == n and (inst["state"] == STARTING or inst["state"] == READY)


@njit
def set_closed(r, n, flag):
    """Close (1) or open (0) the GPUs of node n; count the instances that leave with them."""
    for g in range(r["gpus"]):
        gpu = gpu_at(r["gpu"], g)
        if gpu["node"] == n:
            gpu["closed"] = flag
    for i in range(r["insts"]):
        inst = inst_at(r["inst"], i)
        if _is_on(inst, n):
            fn_at(r["fn"], inst["fn"])["leaving"] += 2 * flag - 1


@njit
def _drain(r, n, t):
    """Take no more on node n and let go what is idle there."""
    node_at(r["node"], n)["state"] = DRAINING
    set_closed(r, n, 1)
    for i in range(r["insts"]):
        inst = inst_at(r["inst"], i)
        if _is_on(inst, n):
            unpin(r, i)
    for f in range(r["fns"]):
        i = fn_at(r["fn"], f)["open_head"]
        while i != NONE:
            inst = inst_at(r["inst"], i)
            following = inst["next"]
            if inst["node"] == n and inst["inflight"] == 0:
                r["expiries"] += 1
                remove_instance(r, i, t)
            i = following
    part(r, n, t)


@njit
def come_up(r, n, t):
    """Node n is there."""
    node_at(r["node"], n)["state"] = UP
    set_closed(r, n, 0)
    count_off(r, t)


@njit
def _bring_up(r, n, t):
    """Node n is wanted."""
    node = node_at(r["node"], n)
    if node["state"] == DRAINING:
        come_up(r, n, t)
    elif node["state"] == OFF:
        node["state"], node["up_t"] = BOOTING, t
        if node["boot_s"] > 0.0:
            push(r, t + node["boot_s"], NODE, n, node["stamp"])
        else:
            come_up(r, n, t)


@njit
def _take_down(r, n, t):
    """Node n is not wanted."""
    node = node_at(r["node"], n)
    if node["state"] == UP:
        _drain(r, n, t)
    elif node["state"] == BOOTING:
        node["state"] = OFF
        node["stamp"] += 1
        node["up_s"] += t - node["up_t"]


@njit
def follow_orders(r, t):
    """Bring every node to where the standing orders want it."""
    for n in range(r["nodes"]):
        node = node_at(r["node"], n)
        if node["wanted"] and node["noticed"] == 0 and node["lost"] == 0:
            _bring_up(r, n, t)
        else:
            _take_down(r, n, t)
