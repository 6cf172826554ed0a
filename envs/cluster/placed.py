"""Targets in force: where a function may be, and which of its instances are held there.

An instance that fills a floor is pinned: it counts neither as idle on its GPU nor as evictable, and
no timer ends it. What stands where no target (or no node that is up) wants it leaves when idle.
A row of the table holds how many instances, or host copies, it covers; see targets.py. An instance
over several GPUs counts for the rows that name its first, and each of its GPUs must be named.

Units: bytes, seconds.
"""

from __future__ import annotations

from stoker.envs.cluster.gpu_class import suits
from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.order import count_idle
from stoker.envs.cluster.sharing import make_evictable, make_needed
from stoker.envs.cluster.tables import (
    NONE,
    READY,
    UP,
    fn_at,
    gpu_at,
    inst_at,
    node_at,
    target_at,
)

DEVICE_TIER, HOST_TIER = 0, 1


@hot
def standing(fn):
    """Instances of a function, less those on nodes that drain."""
    return fn["n"] - fn["leaving"]


@njit
def closed(r, inst):
    """Whether the node of an instance drains."""
    return gpu_at(r["gpu"], inst["gpu"])["closed"] == 1


@njit
def names_gpu(r, k, g):
    """Whether target k is for the devices and names GPU g."""
    target = target_at(r["target"], k)
    if target["tier"] != DEVICE_TIER:
        return False
    if target["gpu"] != NONE:
        return target["gpu"] == g
    return target["kind"] == NONE or target["kind"] == gpu_at(r["gpu"], g)["kind"]


@njit
def names_node(r, k, n):
    """Whether target k is for host memory and names node n."""
    target = target_at(r["target"], k)
    if target["tier"] != HOST_TIER:
        return False
    if target["gpu"] != NONE:
        return gpu_at(r["gpu"], target["gpu"])["node"] == n
    return target["kind"] == NONE or target["kind"] == node_at(r["node"], n)["kind"]


@njit
def _room_in_targets(r, f, g):
    """Whether the targets of f let one more instance go to GPU g."""
    fn = fn_at(r["fn"], f)
    named = False
    for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
        if names_gpu(r, k, g):
            named = True
            if target_at(r["target"], k)["n"] >= target_at(r["target"], k)["max"]:
                return False
    return named


@hot
def admits(r, f, g, k):
    """Whether a new instance of f may go to GPU g; k: the target that it is for, or NONE."""
    fn, gpu = fn_at(r["fn"], f), gpu_at(r["gpu"], g)
    if not suits(fn, gpu):
        return False
    if r["placing"] == 0:
        return True
    if gpu["closed"] or (k != NONE and not names_gpu(r, k, g)):
        return False
    return fn["placed"] == 0 or _room_in_targets(r, f, g)


@njit
def barred(r, f):
    """Whether the targets of f leave no GPU on which it may start, however much memory is free."""
    fn = fn_at(r["fn"], f)
    for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
        target = target_at(r["target"], k)
        if target["tier"] == DEVICE_TIER and target["n"] < target["max"]:
            first, last = target["gpu"], target["gpu"] + 1
            if target["gpu"] == NONE:
                first, last = 0, r["gpus"]
            for g in range(first, last):
                if admits(r, f, g, k):
                    return False
    return fn["placed"] > 0


@njit
def loosen(r, i):
    """Pinned instance i, which is idle, counts as such on its GPUs."""
    while i != NONE:
        part = inst_at(r["inst"], i)
        make_evictable(r, part["fn"], part["gpu"], 0)
        count_idle(r, part["gpu"], part["fn"], 1)
        i = part["shard"]


@njit
def regrip(r, i):
    """Pinned instance i has become idle: it must not count as such."""
    while i != NONE:
        part = inst_at(r["inst"], i)
        make_needed(r, part["fn"], part["gpu"])
        count_idle(r, part["gpu"], part["fn"], -1)
        i = part["shard"]


@njit
def pin(r, i, k):
    """Hold instance i for the floor of target k."""
    inst = inst_at(r["inst"], i)
    inst["pinned"] = 1 + k
    target_at(r["target"], k)["pinned"] += 1
    if inst["state"] == READY and inst["inflight"] == 0:
        regrip(r, i)


@njit
def let_loose(r, i):
    """Forget that instance i is pinned."""
    inst = inst_at(r["inst"], i)
    if inst["pinned"] and inst["state"] == READY and inst["inflight"] == 0:
        loosen(r, i)
    inst["pinned"] = 0


@njit
def unpin(r, i):
    """Hold instance i no longer for the target that it is pinned for."""
    inst = inst_at(r["inst"], i)
    if inst["pinned"]:
        target_at(r["target"], inst["pinned"] - 1)["pinned"] -= 1
        let_loose(r, i)


@njit
def entered(r, i):
    """A new instance counts for the targets that cover it, and for the first open floor."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
        if names_gpu(r, k, inst["gpu"]):
            target = target_at(r["target"], k)
            target["n"] += 1
            if not inst["pinned"] and target["pinned"] < target["min"]:
                pin(r, i, k)


@njit
def parted(r, f, g):
    """An instance of f, which is not pinned, has left GPU g."""
    fn = fn_at(r["fn"], f)
    for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
        if names_gpu(r, k, g):
            target_at(r["target"], k)["n"] -= 1


@njit
def must_leave(r, inst):
    """Whether an instance has to go when it is idle: its node drains, or it exceeds a target."""
    if closed(r, inst):
        return True
    fn = fn_at(r["fn"], inst["fn"])
    if fn["placed"] == 0 or inst["pinned"]:
        return False
    named = False
    for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
        if names_gpu(r, k, inst["gpu"]):
            named = True
            if target_at(r["target"], k)["n"] > target_at(r["target"], k)["max"]:
                return True
    return not named


@hot
def may_expire(r, inst):
    """Whether an idle instance whose time is over may go: no floor needs it."""
    if r["placing"]:
        if must_leave(r, inst):
            return True
        if inst["pinned"]:
            return False
    fn = fn_at(r["fn"], inst["fn"])
    return standing(fn) > fn["prewarm"]


@njit
def copies_change(r, n, f, change):
    """One host copy of f more (1) or less (-1) on node n."""
    fn = fn_at(r["fn"], f)
    for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
        if names_node(r, k, n):
            target_at(r["target"], k)["n"] += change


@njit
def copy_held(r, n, f):
    """Whether a floor needs the host copy of f on node n."""
    fn = fn_at(r["fn"], f)
    for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
        target = target_at(r["target"], k)
        if target["n"] <= target["min"] and names_node(r, k, n):
            return True
    return False


@njit
def copy_surplus(r, n, f):
    """Whether the host copy of f on node n exceeds its targets."""
    fn = fn_at(r["fn"], f)
    if fn["hosted"] == 0:
        return False
    named = False
    for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
        if names_node(r, k, n):
            named = True
            if target_at(r["target"], k)["n"] > target_at(r["target"], k)["max"]:
                return True
    return not named


@njit
def host_open(r, n, f):
    """Whether node n is up and the targets of f let one more host copy go there."""
    if node_at(r["node"], n)["state"] != UP:
        return False
    fn = fn_at(r["fn"], f)
    named = fn["hosted"] == 0
    for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
        if names_node(r, k, n):
            named = True
            if target_at(r["target"], k)["n"] >= target_at(r["target"], k)["max"]:
                return False
    return named
