"""Whose turn it is under rule `order`.

The rule says which waiting function gets memory, and which of the instances that wait for an
exclusive GPU runs next. fcfs takes the first in line; the other rules look at all of them.

Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.placed import barred
from stoker.envs.cluster.requests import head_arrival
from stoker.envs.cluster.rules.collation import collated_turn, overdue
from stoker.envs.cluster.rules.edf import deadline
from stoker.envs.cluster.rules.required_request_count import held_back
from stoker.envs.cluster.tables import NONE, fn_at, gpu_at, inst_at

FCFS, EDF, COLLATION, REQUIRED_REQUEST_COUNT = 0, 1, 2, 3


@njit
def may_load(r, f, t):
    """Whether the rule lets f, which has queued requests, ask for memory now."""
    return r["order_rule"] != REQUIRED_REQUEST_COUNT or not held_back(r, f, t)


@njit
def claimant(r, f, t):
    """The waiting function that may take the memory of f, between two of its batches, or NONE."""
    if r["order_rule"] != COLLATION or r["wait_head"] == NONE or fn_at(r["fn"], f)["queued"] == 0:
        return NONE
    other = overdue(r, f, t)
    return NONE if other != NONE and r["placing"] and barred(r, other) else other


@njit
def _key(r, f):
    """The least is next for memory."""
    if r["order_rule"] == EDF:
        return deadline(r, f)
    return head_arrival(r, f) if r["order_rule"] == COLLATION else 0.0


@njit
def next_for_memory(r, t):
    """The waiting function to try next, or NONE; one whose queue is empty comes first.

    One that its targets bar from every GPU holds nobody up.
    """
    if r["order_rule"] == FCFS and not r["placing"]:
        return r["wait_head"]
    best = NONE
    least = math.inf
    f = r["wait_head"]
    while f != NONE:
        fn = fn_at(r["fn"], f)
        if fn["queued"] == 0:
            return f
        if may_load(r, f, t) and not (r["placing"] and barred(r, f)):
            if r["order_rule"] == FCFS:
                return f
            key = _key(r, f)
            if best == NONE or key < least:
                best, least = f, key
        f = fn["next_waiting"]
    return best


@njit
def _earliest_turn(r, g):
    """edf: the instance on GPU g whose function's head is due first."""
    best = i = gpu_at(r["gpu"], g)["run_head"]
    least = math.inf
    while i != NONE:
        inst = inst_at(r["inst"], i)
        if fn_at(r["fn"], inst["fn"])["queued"] == 0:
            return i
        due = deadline(r, inst["fn"])
        if due < least:
            best, least = i, due
        i = inst["link"]
    return best


@njit
def next_on_gpu(r, g, t):
    """The instance that runs next on exclusive GPU g; somebody waits for it."""
    if r["order_rule"] == EDF:
        return _earliest_turn(r, g)
    if r["order_rule"] == COLLATION:
        return collated_turn(r, g, t)
    return gpu_at(r["gpu"], g)["run_head"]
