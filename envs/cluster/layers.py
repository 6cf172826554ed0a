"""Parked layers: what an instance leaves behind in host memory when it goes from its device.

RainbowCake (ASPLOS 2024): its process stays, without weights, for `runtime_keep_alive_s`, then as
an empty sandbox for `sandbox_keep_alive_s`, both the standing orders of the function that left it,
which pays for the host memory. A function that names no size for a layer leaves none.

Parking takes free host memory only. Weights that need room there push layers out: empty sandboxes
first, then processes, oldest first. Timers end them, whatever `ttl_expiry` says.

A layer is an instance slot in state PARKED with its stage in `phase`: chained by node and runtime,
all empty sandboxes of a node together, through `prev` and `next`, oldest first; and by function
through `peer_prev` and `peer_next`.  Units: seconds, bytes.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.bill import charge, touch_host
from stoker.envs.cluster.chains import append, take_out
from stoker.envs.cluster.events import EXPIRE, push, quantize
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.slots import give_free, take_free
from stoker.envs.cluster.tables import NONE, PARKED, UP, fn_at, inst_at, layer_at, node_at

PROCESS, SANDBOX = 0, 1
"""Stages of a parked layer, in the order in which they follow each other."""


def parkable_of(rows):
    """Timers, and slots, that layers can need at one instant, of a row or of each: all not free."""
    return (rows["insts"] - rows["free_n"]) * (rows["images"] > 0)


parkable = njit(parkable_of)


@njit
def chain_of(r, n, stage, image):
    """The layers parked on node n: processes of one runtime, or the empty sandboxes."""
    k = image if stage == PROCESS else r["images"]
    return layer_at(r["layer"], n * (r["images"] + 1) + k)


@njit
def _chain(r, i):
    """The chain of layer i."""
    inst = inst_at(r["inst"], i)
    return chain_of(r, inst["node"], inst["phase"], fn_at(r["fn"], inst["fn"])["image"])


@njit
def _own(r, i):
    """List layer i among those of its function."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    inst["peer_prev"], inst["peer_next"] = NONE, fn["parked"]
    if fn["parked"] != NONE:
        inst_at(r["inst"], fn["parked"])["peer_prev"] = i
    fn["parked"] = i


@njit
def _disown(r, i):
    """Take layer i off that list."""
    inst = inst_at(r["inst"], i)
    if inst["peer_prev"] == NONE:
        fn_at(r["fn"], inst["fn"])["parked"] = inst["peer_next"]
    else:
        inst_at(r["inst"], inst["peer_prev"])["peer_next"] = inst["peer_next"]
    if inst["peer_next"] != NONE:
        inst_at(r["inst"], inst["peer_next"])["peer_prev"] = inst["peer_prev"]


@njit
def _size(fn, stage):
    return fn["process_bytes"] if stage == PROCESS else fn["sandbox_bytes"]


@njit
def _keep_s(fn, stage):
    return fn["runtime_keep_alive_s"] if stage == PROCESS else fn["sandbox_keep_alive_s"]


@njit
def _hold(r, n, f, change, t):
    """Function f holds so many bytes more (or less) of host memory on node n in parked layers."""
    fn, node = fn_at(r["fn"], f), node_at(r["node"], n)
    touch_host(r, n, t)
    charge(r, f, t)
    fn["held_host"] += change
    fn["held_parked"] += change
    r["host_used"] += change
    node["host_used"] += change
    node["host_peak"] = max(node["host_peak"], node["host_used"])


@njit
def _ends(r, inst):
    """When the standing keep-alive of a layer's stage ends."""
    keep_s = _keep_s(fn_at(r["fn"], inst["fn"]), inst["phase"])
    return quantize(r, inst["idle_since"] + keep_s)


@njit
def _set_timer(r, i):
    """Make sure that a timer will look at layer i when its stage ends."""
    inst = inst_at(r["inst"], i)
    at = _ends(r, inst)
    if at < inst["timer"]:
        inst["timer"] = at
        push(r, at, EXPIRE, i, inst["created"] & 0x7FFFFFFF)


@njit
def _is_kept(r, n, f, stage):
    """Whether a layer of f may begin a stage on node n: it is ordered, and there is room."""
    fn, node = fn_at(r["fn"], f), node_at(r["node"], n)
    size = _size(fn, stage)
    ordered = size > 0 and _keep_s(fn, stage) > 0.0 and node["state"] == UP
    return ordered and node["host_cap"] - node["host_used"] >= size


@njit
def _begin(r, i, stage, t):
    """Layer i begins a stage for which there is room."""
    inst = inst_at(r["inst"], i)
    inst["phase"], inst["idle_since"], inst["timer"] = stage, t, math.inf
    _hold(r, inst["node"], inst["fn"], _size(fn_at(r["fn"], inst["fn"]), stage), t)
    append(r, _chain(r, i), i)
    _set_timer(r, i)


@njit
def _end(r, i, t):
    """Layer i is no longer in its stage."""
    inst = inst_at(r["inst"], i)
    take_out(r, _chain(r, i), i)
    _hold(r, inst["node"], inst["fn"], -_size(fn_at(r["fn"], inst["fn"]), inst["phase"]), t)


@njit
def park(r, n, f, t):
    """An instance of f has left its device on node n: keep its process, or else its sandbox."""
    stage = PROCESS
    if not _is_kept(r, n, f, stage):
        stage = SANDBOX
        if not _is_kept(r, n, f, stage):
            return
    i = take_free(r)
    inst = inst_at(r["inst"], i)
    inst["fn"], inst["node"], inst["gpu"], inst["state"] = f, n, NONE, PARKED
    _own(r, i)
    _begin(r, i, stage, t)


@njit
def remove_layer(r, i, t):
    """Layer i is taken, or makes room."""
    _end(r, i, t)
    _disown(r, i)
    give_free(r, i)


@njit
def _downgrade(r, i, t):
    """The stage of layer i is over: an empty sandbox follows a process, nothing a sandbox."""
    inst = inst_at(r["inst"], i)
    was = inst["phase"]
    _end(r, i, t)
    if was == PROCESS and _is_kept(r, inst["node"], inst["fn"], SANDBOX):
        _begin(r, i, SANDBOX, t)
    else:
        _disown(r, i)
        give_free(r, i)


@njit
def review_layer(r, i, t):
    """End the stage of layer i if its standing keep-alive has ended."""
    if _ends(r, inst_at(r["inst"], i)) <= t:
        _downgrade(r, i, t)
    else:
        _set_timer(r, i)


@njit
def review_layers(r, f, t):
    """The orders of f may have changed: look at all its layers."""
    i = fn_at(r["fn"], f)["parked"]
    while i != NONE:
        following = inst_at(r["inst"], i)["peer_next"]
        review_layer(r, i, t)
        i = following


@njit
def drop_layer(r, n, t):
    """Drop one layer of node n to make room; return False if it has none."""
    i = chain_of(r, n, SANDBOX, 0)["head"]
    if i == NONE:
        for image in range(r["images"]):
            head = chain_of(r, n, PROCESS, image)["head"]
            if head == NONE:
                continue
            since = inst_at(r["inst"], head)["idle_since"]
            if i == NONE or since < inst_at(r["inst"], i)["idle_since"]:
                i = head
    if i == NONE:
        return False
    remove_layer(r, i, t)
    return True
