"""Freeness: the replica that could go on decoding longest, the first of equals.

    (free blocks - blocks that the waiting requests start with) / (running + 1 if any waits)

and infinity for a replica without requests.

Source: Sun et al., "Llumnix: dynamic scheduling for large language model serving", OSDI 2024,
section 4.4; AlibabaPAI/llumnix 24220fb8, load "remaining steps" (all that wait count there with
their demand, and here as one in the divisor).  Units: blocks a request.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.blocks import need
from stoker.envs.cluster.llm.fleet.tables import BUSY, DOWN, replica_at, row_at
from stoker.envs.cluster.llm.stretch import growth_until
from stoker.envs.cluster.llm.tables import NONE, member_at, queue_at, req_at


@njit
def freeness(f, k):
    """Freeness of one replica at the present."""
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    free, running = r["free"], r["running"]
    if p["state"] == BUSY:
        running += r["members"]
        free -= growth_until(r, p["steps"], f["now"] - p["start"])
    waits = 1 if r["waiting"] > 0 or p["inbox"] != NONE else 0
    if running + waits == 0:
        return math.inf
    return (free - p["demand"]) / (running + waits)


@njit
def most_free(f, fn):
    """Replica of the function; NONE if all are down."""
    best, most = NONE, -math.inf
    for k in range(fn["first"], fn["first"] + fn["count"]):
        if replica_at(f["replica"], k)["state"] <= DOWN:
            continue
        found = freeness(f, k)
        if best == NONE or found > most:
            best, most = k, found
    return best


@njit
def note_batch(f, k):
    """Take those that start in the batch that was formed out of the demand of those that wait."""
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    if r["preempted"] > 0:
        p["demand"] = _queued_blocks(r)
    elif r["chunks"] > 0:
        for i in range(r["members"]):
            s = req_at(r["req"], member_at(r["batch"], i)["q"])
            if s["processed"] == 0:
                p["demand"] -= need(r, s)


@njit
def _queued_blocks(r):
    """Blocks that all in the queues start with; the inbox is empty when a batch is formed."""
    total = 0
    for level in range(r["queues"]):
        q = queue_at(r["queue"], level)["head"]
        for _ in range(queue_at(r["queue"], level)["n"]):
            s = req_at(r["req"], q)
            total += need(r, s)
            q = s["next"]
    return total
