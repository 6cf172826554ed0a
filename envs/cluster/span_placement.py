"""Placement of an instance over several GPUs: so many of one class on one node, all or none.

Of each class on each node the GPUs with free room come first, then those that idle instances could
make room on, each by the cost of rule `placement`; the set of which fewest have to be cleared wins,
then the one of least total cost. Nothing is evicted unless every GPU of the set can be cleared,
whatever `futile_eviction` says.  Units: bytes, seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.eviction import evictable_below, make_room
from stoker.envs.cluster.gpu_class import suits
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.order import FIRST_SCAN
from stoker.envs.cluster.placed import admits
from stoker.envs.cluster.rules.placement import FIRST_FIT, placement_cost
from stoker.envs.cluster.tables import NONE, fn_at, gpu_at

FREE_NOW, TO_CLEAR = 0, 1
"""How a GPU can take a share."""


@njit
def _clearable(r, g, short, t, limit):
    """Whether `make_room` can free so many bytes more on GPU g."""
    if gpu_at(r["gpu"], g)["evictable"] < short:
        return False
    if limit == math.inf:
        return True
    return r["eviction"] >= FIRST_SCAN and evictable_below(r, g, t, limit) >= short


@njit
def _offer(r, f, g, t, limit, k):
    """How GPU g can take a share of f (NONE: not at all), and at what cost. `k`: see `admits`."""
    if r["placing"] and not admits(r, f, g, k):
        return NONE, math.inf
    gpu = gpu_at(r["gpu"], g)
    free = gpu["cap"] - gpu["used"]
    short = fn_at(r["fn"], f)["bytes"] - free
    if short <= 0:
        return FREE_NOW, float(g) if r["placement"] == FIRST_FIT else placement_cost(r, f, g, free)
    if not _clearable(r, g, short, t, limit):
        return NONE, math.inf
    return TO_CLEAR, placement_cost(r, f, g, free + gpu["evictable"])


@njit
def _alike(r, g, h):
    """Whether GPU h exists and is on the node of GPU g; and whether they are of one class."""
    if h < 0 or h >= r["gpus"]:
        return False, False
    one, other = gpu_at(r["gpu"], g), gpu_at(r["gpu"], h)
    return one["node"] == other["node"], one["kind"] == other["kind"]


@njit
def _leads(r, g):
    """Whether GPU g is the first of its class on its node."""
    h = g - 1
    near, same = _alike(r, g, h)
    while near:
        if same:
            return False
        h -= 1
        near, same = _alike(r, g, h)
    return True


@njit
def _after(r, f, lead, t, limit, k, way, cost, last):
    """The best offer of the class that GPU `lead` leads, after the offer (way, cost) of `last`."""
    best, best_way, best_cost = NONE, 0, 0.0
    g = lead
    near, same = _alike(r, lead, g)
    while near:
        if same:
            w, c = _offer(r, f, g, t, limit, k)
            later = w > way or (w == way and (c > cost or (c == cost and g > last)))
            better = best == NONE or w < best_way or (w == best_way and c < best_cost)
            if w != NONE and later and better:
                best, best_way, best_cost = g, w, c
        g += 1
        near, same = _alike(r, lead, g)
    return best, best_way, best_cost


@njit
def _pick(r, f, lead, t, limit, k):
    """Chain the best GPUs of a class on a node; return the first, how many to clear, the cost."""
    first, before, clear, total = NONE, NONE, 0, 0.0
    way, cost = NONE, -math.inf
    for _ in range(fn_at(r["fn"], f)["gpus"]):
        g, way, cost = _after(r, f, lead, t, limit, k, way, cost, before)
        if g == NONE:
            return NONE, 0, 0.0
        if before == NONE:
            first = g
        else:
            gpu_at(r["gpu"], before)["pick"] = g
        before, clear, total = g, clear + way, total + cost
    return first, clear, total


@njit
def choose_span(r, f, t, limit, k):
    """Make room for f on GPUs of one class on one node; return the first, chained, or NONE.

    k: the target that the instance is for, NONE = any GPU that f may use.
    """
    fn = fn_at(r["fn"], f)
    best, fewest, least = NONE, 0, math.inf
    for lead in range(r["gpus"]):
        if suits(fn, gpu_at(r["gpu"], lead)) and _leads(r, lead):
            first, clear, total = _pick(r, f, lead, t, limit, k)
            if first != NONE and (
                best == NONE or clear < fewest or (clear == fewest and total < least)
            ):
                best, fewest, least = first, clear, total
    g = best
    if fewest > 0:
        for _ in range(fn["gpus"]):
            make_room(r, g, fn["bytes"], t, limit)
            g = gpu_at(r["gpu"], g)["pick"]
    return best


@njit
def span_fits(r, f, empty):
    """Whether some node has enough GPUs of a class with room for f: free, or all of it `empty`."""
    fn = fn_at(r["fn"], f)
    for lead in range(r["gpus"]):
        gpu = gpu_at(r["gpu"], lead)
        if not suits(fn, gpu) or not _leads(r, lead):
            continue
        found = 0
        g = lead
        near, same = _alike(r, lead, g)
        while near:
            gpu = gpu_at(r["gpu"], g)
            room = gpu["cap"] if empty else gpu["cap"] - gpu["used"]
            open_now = empty or r["placing"] == 0 or admits(r, f, g, NONE)
            found += same and open_now and room >= fn["bytes"]
            g += 1
            near, same = _alike(r, lead, g)
        if found >= fn["gpus"]:
            return True
    return False
