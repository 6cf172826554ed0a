"""Carry out new targets: count what they cover, hold what fills a floor, load what is missing."""

from __future__ import annotations

import math

from stoker.envs.cluster.host_tier import copy_of
from stoker.envs.cluster.instances import remove_instance
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.loading import fetch_copy
from stoker.envs.cluster.placed import (
    HOST_TIER,
    closed,
    copies_change,
    let_loose,
    must_leave,
    names_gpu,
    pin,
    standing,
)
from stoker.envs.cluster.scaling import SPARE, choose_gpu, load_ahead
from stoker.envs.cluster.tables import (
    ABSENT,
    NONE,
    READY,
    STARTING,
    fn_at,
    inst_at,
    target_at,
)


@njit
def _is_placed(inst):
    return inst["state"] == STARTING or inst["state"] == READY


@njit
def _count_all(r):
    """Count what the new targets cover; nothing is pinned yet."""
    for i in range(r["insts"]):
        inst = inst_at(r["inst"], i)
        if _is_placed(inst):
            let_loose(r, i)
            fn = fn_at(r["fn"], inst["fn"])
            for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
                if names_gpu(r, k, inst["gpu"]):
                    target_at(r["target"], k)["n"] += 1
    for f in range(r["fns"]):
        if fn_at(r["fn"], f)["hosted"] > 0:
            for n in range(r["nodes"]):
                if copy_of(r, n, f)["state"] != ABSENT:
                    copies_change(r, n, f, 1)


@njit
def _oldest(r, f, k):
    """The oldest instance of f that target k covers and none holds, or NONE."""
    best = NONE
    for i in range(r["insts"]):
        inst = inst_at(r["inst"], i)
        if not _is_placed(inst) or inst["fn"] != f or inst["pinned"] or closed(r, inst):
            continue
        older = best == NONE or inst["created"] < inst_at(r["inst"], best)["created"]
        if older and names_gpu(r, k, inst["gpu"]):
            best = i
    return best


@njit
def _adopt(r, f, k):
    """Hold instances that are there already for the floor of target k, the oldest first."""
    target = target_at(r["target"], k)
    while target["pinned"] < min(target["min"], target["n"]):
        i = _oldest(r, f, k)
        if i == NONE:
            return
        pin(r, i, k)


@njit
def _shed(r, f, t):
    """Let go the idle instances of f that exceed its targets."""
    i = fn_at(r["fn"], f)["open_head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        following = inst["next"]
        if inst["inflight"] == 0 and must_leave(r, inst):
            r["expiries"] += 1
            remove_instance(r, i, t)
        i = following


@njit
def take_up(r, t):
    """New targets are in the table: pin, and make room by what exceeds them."""
    if r["retarget"] == 0:
        return
    r["retarget"] = 0
    _count_all(r)
    for f in range(r["fns"]):
        fn = fn_at(r["fn"], f)
        for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
            _adopt(r, f, k)
        if fn["placed"] > 0:
            _shed(r, f, t)


@njit
def _load_for(r, f, k, t):
    """Load an instance of f for target k, over idle ones that no floor holds if need be."""
    fn = fn_at(r["fn"], f)
    if standing(fn) >= fn["max_instances"]:
        return False
    if r["free_n"] < fn["gpus"] or r["heap_cap"] - r["heap_n"] < r["fns"] + SPARE:
        return False
    g = choose_gpu(r, f, t, math.inf, k)
    if g == NONE:
        return False
    load_ahead(r, f, g, t, 0.0)
    return True


@njit
def uphold(r, f, t):
    """Bring up what the floors of f lack, as far as memory allows."""
    fn = fn_at(r["fn"], f)
    for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
        target = target_at(r["target"], k)
        if target["tier"] == HOST_TIER:
            while target["n"] < target["min"]:
                if not fetch_copy(r, f, k, t):
                    r["refused"] += 1
                    break
            continue
        _adopt(r, f, k)
        while target["pinned"] < target["min"]:
            if not _load_for(r, f, k, t):
                r["refused"] += 1
                break
