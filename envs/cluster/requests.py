"""Requests and their queues: first come, first served within a function.  Units: seconds."""

from __future__ import annotations

import numpy as np

from stoker.envs.cluster.effects import REJECT, effect
from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.tables import DROPPED, NONE, f8_at, fn_at, i4_at, req_at


@njit
def function_of(r, q):
    """Function that request q asks for."""
    return np.int64(i4_at(r["function"], q)["v"])


@njit
def head_arrival(r, f):
    """When the head of the queue of f arrived; it has one."""
    return f8_at(r["arrival"], fn_at(r["fn"], f)["q_head"])["v"]


@njit
def drop(r, q, t):
    """Refuse request q."""
    fn = fn_at(r["fn"], function_of(r, q))
    req = req_at(r["req"], q)
    req["tier"], req["finish"] = DROPPED, t
    r["drops"] += 1
    fn["acc_drops"] += 1
    if fn["inflight"] == 0 and fn["queued"] == 0:
        fn["last_idle"] = t
    if r["live"]:
        effect(r, REJECT, NONE, NONE, NONE, q, 0)


@njit
def enqueue(r, f, q):
    """Append request q to the queue of f."""
    fn = fn_at(r["fn"], f)
    req_at(r["req"], q)["next"] = NONE
    if fn["queued"] == 0:
        fn["q_head"] = q
    else:
        req_at(r["req"], fn["q_tail"])["next"] = q
    fn["q_tail"] = q
    fn["queued"] += 1
    r["queued"] += 1


@njit
def requeue(r, f, q):
    """Put request q back into the queue of f, before those that arrived after it."""
    fn = fn_at(r["fn"], f)
    before, after = NONE, fn["q_head"] if fn["queued"] > 0 else NONE
    while after != NONE and after < q:
        before, after = after, req_at(r["req"], after)["next"]
    if after == NONE:
        enqueue(r, f, q)
        return
    req_at(r["req"], q)["next"] = after
    if before == NONE:
        fn["q_head"] = q
    else:
        req_at(r["req"], before)["next"] = q
    fn["queued"] += 1
    r["queued"] += 1


@hot
def dequeue(r, f):
    """Take the head of the queue of f."""
    fn = fn_at(r["fn"], f)
    q = fn["q_head"]
    fn["q_head"] = req_at(r["req"], q)["next"]
    fn["queued"] -= 1
    r["queued"] -= 1
    return q
