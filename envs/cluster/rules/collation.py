"""Collation as llama-swap has it, with the limit on waiting that its issue 612 asks for.

Rule: the function that is loaded, or that ran last on an exclusive GPU, goes on while it has queued
requests; otherwise the oldest head is next. A head that has waited `order_max_wait_s` goes before
younger ones: an instance between two batches then gives its memory, or its turn, away.
Only functions without an instance claim memory in this way. An instance with batches in service
takes no further one while somebody is overdue, so that it comes to such a point. A function that
needs the memory of several instances may wait longer.  Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.placed import standing
from stoker.envs.cluster.requests import head_arrival
from stoker.envs.cluster.rules.params import ORDER_MAX_WAIT
from stoker.envs.cluster.tables import NONE, f8_at, fn_at, gpu_at, inst_at


@njit
def _too_long(r, arrival, t):
    return t >= arrival + f8_at(r["param"], ORDER_MAX_WAIT)["v"]


@njit
def overdue(r, f, t):
    """The function that has no instance and goes before f, whose head is younger; or NONE."""
    best = NONE
    oldest = head_arrival(r, f)
    k = r["wait_head"]
    while k != NONE:
        fn = fn_at(r["fn"], k)
        if standing(fn) == 0 and fn["queued"] > 0 and fn["max_instances"] > 0:
            arrival = head_arrival(r, k)
            if arrival < oldest and _too_long(r, arrival, t):
                best, oldest = k, arrival
        k = fn["next_waiting"]
    return best


@njit
def collated_turn(r, g, t):
    """The instance that runs next on exclusive GPU g, of those that wait for it."""
    gpu = gpu_at(r["gpu"], g)
    same = first = NONE
    oldest = math.inf
    i = gpu["run_head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        if fn_at(r["fn"], inst["fn"])["queued"] == 0:
            return i  # its work has gone elsewhere: it need not wait on
        if same == NONE and inst["fn"] == gpu["last"]:
            same = i
        arrival = head_arrival(r, inst["fn"])
        if arrival < oldest:
            first, oldest = i, arrival
        i = inst["link"]
    return first if same == NONE or _too_long(r, oldest, t) else same
