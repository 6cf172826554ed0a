"""Disks of limited size: weights that a node's disk has not got come from a store over the network.

They then lie on the disk until they must make room: the least recently used copy leaves, but none
that a load reads or writes. What finds no room (larger than the disk, or the copies there are all
read) is streamed: it passes from the network to the host and is not kept. So is a second load of
the same weights while the first one brings them. A copy is used until the load that reads or
writes it is done.  Units: seconds, bytes.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.copy_order import list_copy, next_to_leave, set_key, unlist_copy
from stoker.envs.cluster.host_tier import copy_of
from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.links import join
from stoker.envs.cluster.tables import (
    ABSENT,
    COMING,
    NONE,
    STARTING,
    THERE,
    fn_at,
    inst_at,
    link_at,
    node_at,
)

WRITES, READS = 1, 2
"""What a load does with the copy on its node's disk; 0 = nothing."""


@hot
def read_disk(r, i):
    """Instance i is about to load from its node's disk: the copy must stay meanwhile."""
    inst = inst_at(r["inst"], i)
    n, f = inst["node"], inst["fn"]
    node, copy = node_at(r["node"], n), copy_of(r, n, f)
    if node["disk_cap"] == NONE or copy["disk"] != THERE or fn_at(r["fn"], f)["weights"] == 0:
        return
    inst["disk"] = READS
    copy["disk_reads"] += 1
    if copy["disk_reads"] == 1:
        unlist_copy(r, r["nodes"] + n, f)
        node["disk_loose"] -= fn_at(r["fn"], f)["disk_bytes"]


@njit
def write_disk(r, i):
    """Book room on the disk for what instance i brings; return whether it will be kept there."""
    inst = inst_at(r["inst"], i)
    n, f = inst["node"], inst["fn"]
    copy = copy_of(r, n, f)
    if copy["disk"] != ABSENT or not _disk_room(r, n, fn_at(r["fn"], f)["disk_bytes"]):
        return False
    node = node_at(r["node"], n)
    copy["disk"], inst["disk"] = COMING, WRITES
    node["disk_used"] += fn_at(r["fn"], f)["disk_bytes"]
    node["disk_peak"] = max(node["disk_peak"], node["disk_used"])
    return True


@njit
def _disk_room(r, n, need):
    """Make `need` bytes free on the disk of node n; nothing leaves where that cannot suffice."""
    node = node_at(r["node"], n)
    if need > node["disk_cap"] - node["disk_used"] + node["disk_loose"]:
        return False
    while node["disk_cap"] - node["disk_used"] < need:
        f = next_to_leave(r, r["nodes"] + n)
        unlist_copy(r, r["nodes"] + n, f)
        copy_of(r, n, f)["disk"] = ABSENT
        fn = fn_at(r["fn"], f)
        fn["disks"] -= 1
        node["disk_loose"] -= fn["disk_bytes"]
        node["disk_used"] -= fn["disk_bytes"]
    return True


@njit
def _loosen(r, n, f, t):
    """No load reads f's copy on the disk of node n any more."""
    set_key(r, r["nodes"] + n, f, t)
    list_copy(r, r["nodes"] + n, f)
    node_at(r["node"], n)["disk_loose"] += fn_at(r["fn"], f)["disk_bytes"]


@njit
def land_on_disk(r, i):
    """What instance i has brought lies on the disk now; it reads it there."""
    inst = inst_at(r["inst"], i)
    copy = copy_of(r, inst["node"], inst["fn"])
    fn_at(r["fn"], inst["fn"])["disks"] += 1
    copy["disk"], copy["disk_reads"], inst["disk"] = THERE, 1, READS


@njit
def leave_disk(r, i, t):
    """Instance i is done with the disk."""
    inst = inst_at(r["inst"], i)
    if inst["disk"] == WRITES:
        land_on_disk(r, i)
    if inst["disk"] == READS:
        copy = copy_of(r, inst["node"], inst["fn"])
        copy["disk_reads"] -= 1
        if copy["disk_reads"] == 0:
            _loosen(r, inst["node"], inst["fn"], t)
    inst["disk"] = 0


@njit
def give_up_disk(r, i, t):
    """Instance i is lost: what it was writing is void."""
    inst = inst_at(r["inst"], i)
    if inst["disk"] == WRITES:
        copy_of(r, inst["node"], inst["fn"])["disk"] = ABSENT
        size = fn_at(r["fn"], inst["fn"])["disk_bytes"]
        node_at(r["node"], inst["node"])["disk_used"] -= size
        inst["disk"] = 0
    leave_disk(r, i, t)


@njit
def wipe_disk(r, n):
    """Everything on the limited disk of node n, which no load uses any more, is lost."""
    node = node_at(r["node"], n)
    if node["disk_cap"] == NONE:
        return
    for f in range(r["fns"]):
        copy, fn = copy_of(r, n, f), fn_at(r["fn"], f)
        if copy["disk"] == THERE and fn["weights"] > 0:
            unlist_copy(r, r["nodes"] + n, f)
            copy["disk"] = ABSENT
            fn["disks"] -= 1
    node["disk_used"] = node["disk_loose"] = 0


@njit
def in_one_go(r, i):
    """Whether the weights of instance i pass through the host in chunks (loading=pipelined)."""
    inst = inst_at(r["inst"], i)
    return inst["state"] == STARTING and node_at(r["node"], inst["node"])["pipelined"]


@njit
def join_network(r, i, t):
    """Begin to bring the weights of instance i over the network; return whether that takes time.

    A whole file goes to the disk, as fast as the network is; in one go, or streamed, the weights
    are read on the way, at their format's rate at most.
    """
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    keeps, through = inst["disk"] == WRITES, NONE
    n_bytes = (fn["weights"] if keeps else inst["moves"]) / fn["compression"]
    ceiling = math.inf if keeps else fn["load_rate"]
    if in_one_go(r, i):
        ceiling, through = fn["load_rate"], r["nodes"] + inst["gpu"]
    l = 2 * r["nodes"] + r["gpus"] + inst["node"]
    if min(ceiling, link_at(r["link"], l)["rate"]) == math.inf:
        return False
    inst["compression"] = fn["compression"]
    join(r, l, through, i, n_bytes, ceiling, t)
    return True
