"""Scale-out: where a new instance goes, who waits for memory, prewarm.  Units: seconds, bytes."""

from __future__ import annotations

import math

from stoker.envs.cluster.eviction import access, index_at, make_room, renew
from stoker.envs.cluster.features import bin_of
from stoker.envs.cluster.gpu_class import suits
from stoker.envs.cluster.gpulet import has_part, make_part, may_have_part, part_can_be_made
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.layers import parkable
from stoker.envs.cluster.loading import start_instance
from stoker.envs.cluster.order import FIRST_SCAN
from stoker.envs.cluster.placed import admits, standing
from stoker.envs.cluster.rules.placement import FIRST_FIT, placement_cost
from stoker.envs.cluster.rules.wait_vs_cold import WAIT_VS_COLD, slot_is_sooner
from stoker.envs.cluster.sharing import bytes_on
from stoker.envs.cluster.span_placement import choose_span, span_fits
from stoker.envs.cluster.tables import NONE, fn_at, gpu_at, inst_at
from stoker.envs.cluster.turns import claimant, may_load, next_for_memory

PER_REQUEST, TARGET_CONCURRENCY = 0, 1
SPARE = 32
"""Heap places that one start can need beside one timer a function."""


@njit
def choose_gpu(r, f, t, limit, k):
    """Make room for f on some GPU, or on all it spans; return it, or NONE. `limit`: `make_room`.

    k: the target that the instance is for, NONE = any GPU that f may use.

    Among GPUs with free room the placement rule's choice; else among those that idle instances
    could make room on.
    """
    fn = fn_at(r["fn"], f)
    if fn["gpus"] > 1:
        return choose_span(r, f, t, limit, k)
    best = NONE
    least = math.inf
    for g in range(r["gpus"]):
        gpu = gpu_at(r["gpu"], g)
        free = gpu["cap"] - gpu["used"]
        if gpu["spatial"] and not has_part(r, f, g):
            continue
        if free >= bytes_on(r, f, g) and admits(r, f, g, k):
            if r["placement"] == FIRST_FIT:
                return g
            cost = placement_cost(r, f, g, free)
            if cost < least:
                best, least = g, cost
    if best != NONE:
        return best
    for g in range(r["gpus"]):
        gpu = gpu_at(r["gpu"], g)
        room = gpu["cap"] - gpu["used"] + gpu["evictable"]
        if gpu["spatial"] and not may_have_part(r, f, g):
            continue
        if (room >= bytes_on(r, f, g) or r["futile"]) and admits(r, f, g, k):
            cost = placement_cost(r, f, g, room)
            if cost < least:
                best, least = g, cost
    return best if best != NONE and _clear(r, f, best, t, limit) else NONE


@njit
def _clear(r, f, g, t, limit):
    """Make room for f on GPU g; what it takes grows if the last of its family leaves."""
    spatial = gpu_at(r["gpu"], g)["spatial"]
    if spatial and not part_can_be_made(r, f, g, t, limit):
        return False
    need = bytes_on(r, f, g)
    if not make_room(r, g, need, t, limit):
        return False
    if spatial and not make_part(r, f, g, t, limit):
        return False
    return bytes_on(r, f, g) == need or make_room(r, g, bytes_on(r, f, g), t, limit)


@njit
def wait_for_memory(r, f):
    """Queue function f for memory."""
    fn = fn_at(r["fn"], f)
    if fn["waiting"]:
        return
    fn["waiting"], fn["next_waiting"] = 1, NONE
    if r["wait_tail"] == NONE:
        r["wait_head"] = f
    else:
        fn_at(r["fn"], r["wait_tail"])["next_waiting"] = f
    r["wait_tail"] = f


@njit
def fits(r, f):
    """Whether some GPU of the class that it may use can hold an instance of f at all."""
    fn = fn_at(r["fn"], f)
    if fn["gpus"] > 1:
        return span_fits(r, f, True)
    for g in range(r["gpus"]):
        gpu = gpu_at(r["gpu"], g)
        if gpu["cap"] >= fn["bytes"] and suits(fn, gpu):
            return True
    return False


@njit
def _start(r, f, t):
    """Start an instance of f if memory allows it; return whether it does."""
    g = choose_gpu(r, f, t, math.inf, NONE)
    if g == NONE:
        return False
    i = start_instance(r, f, g, t)
    access(r, i, t)
    return True


@njit
def scale(r, f, t):
    """Start instances of f until slots, ready or loading, can hold all its requests.

    Return False if they cannot because f may not have memory, or there is none.
    """
    fn = fn_at(r["fn"], f)
    slots = fn["concurrency"] * fn["max_batch"]
    wanted = min((fn["inflight"] + fn["queued"] + slots - 1) // slots, fn["max_instances"])
    if standing(fn) < wanted and not may_load(r, f, t):
        return False
    while standing(fn) < wanted:
        if r["scale_out"] == WAIT_VS_COLD and slot_is_sooner(r, f, t):
            return True
        spare, places = parkable(r), r["heap_cap"] - r["heap_n"]
        if r["free_n"] < fn["gpus"] + spare or places < r["fns"] + SPARE + spare:
            r["starved"] = 1
            return False
        if not _start(r, f, t):
            return False
    return True


@njit
def _wait_no_more(r, f):
    """Take f out of the queue for memory."""
    fn = fn_at(r["fn"], f)
    before = NONE
    k = r["wait_head"]
    while k != f:
        before = k
        k = fn_at(r["fn"], k)["next_waiting"]
    if before == NONE:
        r["wait_head"] = fn["next_waiting"]
    else:
        fn_at(r["fn"], before)["next_waiting"] = fn["next_waiting"]
    if r["wait_tail"] == f:
        r["wait_tail"] = before
    fn["waiting"] = 0


@njit
def serve_waiting(r, t):
    """Memory may have become free: let the waiting functions try, in the order of rule `order`."""
    while r["wait_head"] != NONE:
        f = next_for_memory(r, t)
        if f == NONE or (fn_at(r["fn"], f)["queued"] > 0 and not scale(r, f, t)):
            return
        _wait_no_more(r, f)


@njit
def give_way(r, f, t):
    """Before f goes on with its queue: a function that goes before it may take its idle memory."""
    other = claimant(r, f, t)
    if other != NONE and _start(r, other, t):
        wait_for_memory(r, f)


@njit
def prewarm(r, f, t, keep_s):
    """Load one instance of f ahead of demand if memory allows it without loss; keep it a while."""
    fn = fn_at(r["fn"], f)
    if standing(fn) >= fn["max_instances"]:
        return False
    if r["free_n"] < fn["gpus"]:
        r["refused"] += 1
        return False
    limit = 0.0
    if r["eviction"] >= FIRST_SCAN:
        limit = index_at(r, f, bin_of(r["first_bin"], t - fn["last_idle"]))
    g = choose_gpu(r, f, t, limit, NONE)
    if g == NONE:
        r["refused"] += 1
        return False
    load_ahead(r, f, g, t, keep_s)
    return True


@njit
def load_ahead(r, f, g, t, keep_s):
    """Start an instance of f on GPU g ahead of demand."""
    i = start_instance(r, f, g, t)
    inst_at(r["inst"], i)["keep_until"] = t + keep_s
    renew(r, f, t)
    r["prewarms"] += 1
