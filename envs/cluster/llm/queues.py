"""Queues of requests that wait, linked through `next`; QUEUE in tables.py says whose they are."""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.tables import NONE, queue_at, req_at


@njit
def push_back(r, q):
    """Append a request to its queue."""
    s = req_at(r["req"], q)
    queue = queue_at(r["queue"], s["queue"])
    s["next"] = NONE
    if queue["n"] == 0:
        queue["head"] = q
    else:
        req_at(r["req"], queue["tail"])["next"] = q
    queue["tail"] = q
    queue["n"] += 1
    r["waiting"] += 1


@njit
def push_front(r, q):
    """Put a request at the head of its queue."""
    s = req_at(r["req"], q)
    queue = queue_at(r["queue"], s["queue"])
    if queue["n"] == 0:
        queue["tail"] = q
        s["next"] = NONE
    else:
        s["next"] = queue["head"]
    queue["head"] = q
    queue["n"] += 1
    r["waiting"] += 1


@njit
def pop(r, k):
    """Take the head of queue k, which has one."""
    return take_after(r, k, NONE)


@njit
def take_after(r, k, before):
    """Take the request behind `before` out of queue k; the head if `before` is NONE."""
    queue = queue_at(r["queue"], k)
    if before == NONE:
        q = queue["head"]
        queue["head"] = req_at(r["req"], q)["next"]
    else:
        q = req_at(r["req"], before)["next"]
        req_at(r["req"], before)["next"] = req_at(r["req"], q)["next"]
    if q == queue["tail"]:
        queue["tail"] = before
    queue["n"] -= 1
    r["waiting"] -= 1
    return q
