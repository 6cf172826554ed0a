"""The event heap: ordered by (time, kind, sequence).

Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.tables import NONE, event_at

DONE, SLOW_DONE, PHASE, LINK, EXPIRE, HOST_EXPIRE, PREWARM, BATCH, ORDER, NODE, FAULT = range(11)
LLM = 11
"""Kinds, in the order in which events of one instant are handled; arrivals come before LLM, after
all others."""
KIND_BITS = 48


@hot
def quantize(r, t):
    """Round a computed time to the grid of integer-tick simulators (`quantum` ticks a second)."""
    if r["quantum"] > 0.0 and t < math.inf:
        return round(t * r["quantum"]) / r["quantum"]
    return t


@njit
def push(r, t, kind, a, b):
    """Schedule event `kind` at t, or now if rounding put t before, with two payload integers."""
    t = max(t, r["now"])
    r["seq"] += 1
    key = (kind << KIND_BITS) | r["seq"]
    heap = r["heap"]
    at = r["heap_n"]
    r["heap_n"] = at + 1
    while at > 0:
        up = (at - 1) >> 1
        parent = event_at(heap, up)
        if parent["t"] < t or (parent["t"] == t and parent["key"] < key):
            break
        here = event_at(heap, at)
        here["t"], here["key"] = parent["t"], parent["key"]
        here["a"], here["b"] = parent["a"], parent["b"]
        at = up
    here = event_at(heap, at)
    here["t"], here["key"], here["a"], here["b"] = t, key, a, b


@njit
def pop(r):
    """Drop the first event (read it through `event_at(r["heap"], 0)` before)."""
    heap = r["heap"]
    n = r["heap_n"] - 1
    r["heap_n"] = n
    last = event_at(heap, n)
    t, key, a, b = last["t"], last["key"], last["a"], last["b"]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        down = event_at(heap, child)
        if child + 1 < n:
            right = event_at(heap, child + 1)
            if right["t"] < down["t"] or (right["t"] == down["t"] and right["key"] < down["key"]):
                child += 1
                down = right
        if t < down["t"] or (t == down["t"] and key < down["key"]):
            break
        here = event_at(heap, at)
        here["t"], here["key"], here["a"], here["b"] = down["t"], down["key"], down["a"], down["b"]
        at = child
    here = event_at(heap, at)
    here["t"], here["key"], here["a"], here["b"] = t, key, a, b


@njit
def scheduled(r, kind, a, b):
    """Place in the heap of an event, or NONE."""
    for k in range(r["heap_n"]):
        event = event_at(r["heap"], k)
        if event["key"] >> KIND_BITS == kind and event["a"] == a and event["b"] == b:
            return k
    return NONE


@njit
def _precedes(r, a, b):
    """Whether the event at place a comes before the one at place b."""
    one, other = event_at(r["heap"], a), event_at(r["heap"], b)
    return one["t"] < other["t"] or (one["t"] == other["t"] and one["key"] < other["key"])


@njit
def _swap(r, a, b):
    one, other = event_at(r["heap"], a), event_at(r["heap"], b)
    one["t"], other["t"] = other["t"], one["t"]
    one["key"], other["key"] = other["key"], one["key"]
    one["a"], other["a"] = other["a"], one["a"]
    one["b"], other["b"] = other["b"], one["b"]


@njit
def reschedule(r, at, t):
    """Let the event at a place of the heap happen at t instead."""
    event_at(r["heap"], at)["t"] = max(t, r["now"])
    while at > 0 and _precedes(r, at, (at - 1) >> 1):
        _swap(r, at, (at - 1) >> 1)
        at = (at - 1) >> 1
    while 2 * at + 1 < r["heap_n"]:
        child = 2 * at + 1
        if child + 1 < r["heap_n"] and _precedes(r, child + 1, child):
            child += 1
        if not _precedes(r, child, at):
            break
        _swap(r, child, at)
        at = child
