"""Fractions of a GPU that is shared in space (gpulet, USENIX ATC 2022).

An instance holds `Function.gpu_fraction` of such a GPU's compute from its start-up until it
leaves, and the fractions never exceed the whole: a newcomer that finds too little free takes the
place of idle instances, as it does for memory. Fractions are whole parts of WHOLE, rounded down, so
that what adds up to one fits. What is taken is summed over the functions on the GPU, and only when
one is placed.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.eviction import evict_one, index_is_below
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.order import FIRST_SCAN, listed_fn, place_of, slot_of
from stoker.envs.cluster.tables import WHOLE, fn_at, gpu_at


@njit
def _parts_short(r, f, g):
    """Parts of GPU g that f lacks, and those that idle instances hold."""
    taken = idle = 0
    for k in range(gpu_at(r["gpu"], g)["listed"]):
        other = listed_fn(r, g, k)
        slot = slot_of(r, g, other)
        taken += slot["n"] * fn_at(r["fn"], other)["part"]
        idle += slot["idle"] * fn_at(r["fn"], other)["part"]
    return taken + fn_at(r["fn"], f)["part"] - WHOLE, idle


@njit
def has_part(r, f, g):
    """Whether f's fraction of GPU g, which is shared in space, is free."""
    return _parts_short(r, f, g)[0] <= 0


@njit
def may_have_part(r, f, g):
    """Whether f's fraction of GPU g, shared in space, is free or held by idle instances."""
    short, idle = _parts_short(r, f, g)
    return short <= idle


@njit
def part_can_be_made(r, f, g, t, limit):
    """Whether `make_part` can free f's fraction of GPU g; `limit`: see `make_room`."""
    if limit == math.inf:
        return may_have_part(r, f, g)
    if has_part(r, f, g):
        return True
    if r["eviction"] < FIRST_SCAN:
        return False
    below = 0
    for k in range(gpu_at(r["gpu"], g)["listed"]):
        place = place_of(r, g, k)
        if index_is_below(r, place, t, limit):
            other = place["fn"]
            below += slot_of(r, g, other)["idle"] * fn_at(r["fn"], other)["part"]
    return _parts_short(r, f, g)[0] <= below


@njit
def make_part(r, f, g, t, limit):
    """Evict idle instances, as the rule in force orders them, until f's fraction is free."""
    while not has_part(r, f, g):
        if not evict_one(r, g, t, limit):
            return False
    return True
