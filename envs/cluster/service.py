"""Requests: queues, batches, scale-out, completion.

A request waits in its function's queue until a rule binds it to an instance: to one of its own at
once (scale_out=per_request), or to the first with a free slot.  Units: seconds, bytes.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.asking import ask
from stoker.envs.cluster.batches import claim, form_and_run, release, run
from stoker.envs.cluster.events import BATCH, push, quantize
from stoker.envs.cluster.eviction import access
from stoker.envs.cluster.exclusive import taken, unqueue, wait_for_gpu
from stoker.envs.cluster.features import on_arrival
from stoker.envs.cluster.idleness import close_gap, settle
from stoker.envs.cluster.instances import MRU, NEWEST, choose_open, remove_instance
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm_lanes import can_be_served, least_outstanding
from stoker.envs.cluster.loading import start_instance
from stoker.envs.cluster.placed import closed, standing
from stoker.envs.cluster.requests import dequeue, drop, enqueue, function_of
from stoker.envs.cluster.rules.wait_vs_cold import WAIT_VS_COLD, batch_done
from stoker.envs.cluster.scaling import (
    PER_REQUEST,
    choose_gpu,
    fits,
    give_way,
    scale,
    wait_for_memory,
)
from stoker.envs.cluster.shares import goes_before, share_of
from stoker.envs.cluster.tables import NONE, f8_at, fn_at, gpu_at, inst_at, req_at
from stoker.envs.cluster.turns import claimant, next_on_gpu


@njit
def _must_wait(r, f, t):
    """Whether the queue of f is held back to form a larger batch; sets the timer if so."""
    fn = fn_at(r["fn"], f)
    if fn["queued"] >= min(fn["min_batch"], fn["max_batch"]):
        return False
    due = f8_at(r["arrival"], fn["q_head"])["v"] + fn["batch_wait_s"]
    if due <= t:
        return False
    if fn["batch_timer"] != due:
        fn["batch_timer"] = due
        push(r, due, BATCH, f, 0)
    return True


@njit
def choose_slot(r, f, t):
    """The first instance in clone order that can run now, else the first that can wait its turn.

    Where targets have weights, the first of the target that is furthest behind its share.
    """
    drain = claimant(r, f, t) != NONE
    waiting = best = NONE
    share = NONE
    weighted = r["placing"] and fn_at(r["fn"], f)["weighted"]
    if not weighted and r["llms"] and fn_at(r["fn"], f)["llm"] != NONE:
        return least_outstanding(r, f, drain)
    newest = r["clone"] == MRU or r["clone"] == NEWEST
    i = choose_open(r, f)
    while i != NONE:
        inst = inst_at(r["inst"], i)
        if (not drain or inst["inflight"] == 0) and not (r["placing"] and closed(r, inst)):
            if not taken(r, inst["gpu"]):
                if not weighted:
                    return i
                k = share_of(r, inst)
                if best == NONE or goes_before(r, f, k, share):
                    best, share = i, k
            elif waiting == NONE and not inst["queued"]:
                waiting = i
        i = inst["prev"] if newest else inst["next"]
    return waiting if best == NONE else best


@njit
def dispatch(r, f, t):
    """Start batches of f while requests wait and slots are free.

    On an exclusive GPU that is taken the instance queues for it; it takes its batch when its turn
    comes, so one place in that queue is enough.
    """
    fn = fn_at(r["fn"], f)
    while fn["queued"] > 0:
        i = choose_slot(r, f, t)
        if r["batching"]:
            ask(r, f, i)
            return
        if i == NONE or _must_wait(r, f, t):
            return
        if taken(r, inst_at(r["inst"], i)["gpu"]):
            claim(r, i, t)
            wait_for_gpu(r, i)
            return
        claim(r, i, t)
        form_and_run(r, i, t)


@njit
def serve_gpu(r, g, t):
    """An exclusive GPU has become free: run the next claimed instance that has work."""
    if r["batching"]:
        for f in range(r["fns"]):
            dispatch(r, f, t)
        return
    gpu = gpu_at(r["gpu"], g)
    while gpu["running"] == 0 and gpu["run_head"] != NONE:
        i = next_on_gpu(r, g, t)
        unqueue(r, i)
        if not form_and_run(r, i, t):
            release(r, i, t)
            settle(r, i, t)


@njit
def _purge(r, f, t):
    """Lazy expiry: drop the idle clones of f that are older than its keep-alive."""
    fn = fn_at(r["fn"], f)
    if fn["keep_alive_s"] == math.inf:
        return
    i = fn["open_head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        following = inst["next"]
        anchor = inst["last_start"] if r["ttl_start"] else inst["idle_since"]
        over = quantize(r, anchor + fn["keep_alive_s"]) < t
        if inst["inflight"] == 0 and over and not inst["pinned"]:
            r["expiries"] += 1
            remove_instance(r, i, t)
        i = following


@njit
def _bind(r, f, q, t):
    """per_request: give request q a free instance or one of its own, or refuse it."""
    fn = fn_at(r["fn"], f)
    if r["ttl_lazy"]:
        _purge(r, f, t)
    i = choose_slot(r, f, t) if r["placing"] else choose_open(r, f)
    if i != NONE:
        claim(r, i, t)
        access(r, i, t)
        run(r, i, q, 1, t)
        return
    g = NONE
    if standing(fn) < fn["max_instances"]:
        g = choose_gpu(r, f, t, math.inf, NONE)
    if g == NONE:
        drop(r, q, t)
        return
    i = start_instance(r, f, g, t)
    inst_at(r["inst"], i)["bound"] = q
    fn["inflight"] += 1
    req_at(r["req"], q)["inst"] = i
    access(r, i, t)


@njit
def arrive(r, q, t):
    """Request q arrives at t."""
    f = function_of(r, q)
    fn = fn_at(r["fn"], f)
    if r["track"]:
        if fn["last_idle"] > -math.inf and fn["inflight"] == 0 and fn["queued"] == 0:
            close_gap(r, f, t)
        on_arrival(r, f, t)
    fn["arrivals"] += 1
    fn["acc_requests"] += 1
    fn["last_arrival"] = t
    if r["llms"] and fn["llm"] != NONE and not can_be_served(r, f, q):
        drop(r, q, t)
        return
    if r["scale_out"] == PER_REQUEST:
        _bind(r, f, q, t)
        return
    enqueue(r, f, q)
    dispatch(r, f, t)
    if fn["queued"] > 0 and not scale(r, f, t):
        if (r["drop_overload"] and standing(fn) == 0) or not fits(r, f):
            drop(r, dequeue(r, f), t)
        else:
            wait_for_memory(r, f)


@njit
def complete(r, head, n, t):
    """The batch of n requests from `head` is done."""
    i = req_at(r["req"], head)["inst"]
    inst = inst_at(r["inst"], i)
    f, g = inst["fn"], inst["gpu"]
    fn = fn_at(r["fn"], f)
    q = head
    for _ in range(n):
        req = req_at(r["req"], q)
        req["finish"] = t
        arrival = f8_at(r["arrival"], q)["v"]
        if t - arrival > fn["slo_s"]:
            fn["acc_late"] += 1
            if arrival >= r["warmup"]:
                r["late"] += 1
        q = req["next"]
    r["served"] += n
    fn["inflight"] -= n
    gpu_at(r["gpu"], g)["running"] -= 1
    if r["scale_out"] == WAIT_VS_COLD:
        batch_done(r, i, head, n, t)
    release(r, i, t)
    created = inst["created"]
    if inst["inflight"] == 0:
        give_way(r, f, t)
    dispatch(r, f, t)
    if gpu_at(r["gpu"], g)["exclusive"]:
        serve_gpu(r, g, t)
    if inst["created"] == created:  # it has not given way
        settle(r, i, t)
