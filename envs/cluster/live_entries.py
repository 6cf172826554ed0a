"""Compiled entries of the live planner: one fact each.  Units: seconds."""

from __future__ import annotations

from stoker.envs.cluster.batches import release
from stoker.envs.cluster.effects import REJECT, effect
from stoker.envs.cluster.engine import alive
from stoker.envs.cluster.exclusive import unqueue
from stoker.envs.cluster.instances import lose_instance
from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.order import rescore
from stoker.envs.cluster.requests import dequeue, function_of
from stoker.envs.cluster.scaling import serve_waiting, wait_for_memory
from stoker.envs.cluster.service import arrive, complete, serve_gpu
from stoker.envs.cluster.tables import (
    DROPPED,
    FAILED,
    NONE,
    READY,
    STARTING,
    fn_at,
    gpu_at,
    inst_at,
    req_at,
)


@njit
def _at(r, t):
    r["now"] = max(r["now"], t)
    return r["now"]


@entry
def arrive_one(rows, q, t):
    """Request q has come."""
    r = rows[0]
    arrive(r, q, _at(r, t))


@entry
def ready_one(rows, i, t):
    """The load of instance i has finished."""
    r = rows[0]
    inst = inst_at(r["inst"], i)
    t = _at(r, t)
    if inst["state"] == STARTING:
        inst["keep_until"] = max(inst["keep_until"], t + r["residency_s"])
    alive(r, i, t)
    serve_waiting(r, r["now"])


@entry
def completed_one(rows, head, n, t):
    """The batch of n requests from `head` is done."""
    r = rows[0]
    complete(r, head, n, _at(r, t))
    serve_waiting(r, r["now"])


@entry
def cancel_one(rows, q, t):
    """Nobody waits for request q any more: it leaves its queue. Return whether it stood in one."""
    r = rows[0]
    f = function_of(r, q)
    fn = fn_at(r["fn"], f)
    before, at = NONE, fn["q_head"]
    for _ in range(fn["queued"]):
        if at == q:
            break
        before, at = at, req_at(r["req"], at)["next"]
    if fn["queued"] == 0 or at != q:
        return False
    t = _at(r, t)
    req = req_at(r["req"], q)
    if before == NONE:
        dequeue(r, f)
    else:
        req_at(r["req"], before)["next"] = req["next"]
        if fn["q_tail"] == q:
            fn["q_tail"] = before
        fn["queued"] -= 1
        r["queued"] -= 1
    req["tier"], req["finish"] = DROPPED, t
    r["drops"] += 1
    fn["acc_drops"] += 1
    if fn["inflight"] == 0 and fn["queued"] == 0:
        fn["last_idle"] = t
        rescore(r, f)
    return True


@njit
def _fail(r, q, t):
    req = req_at(r["req"], q)
    req["tier"], req["finish"] = FAILED, t
    r["failed"] += 1
    effect(r, REJECT, NONE, NONE, NONE, q, FAILED)


@njit
def _lose(r, i, batches, t):
    """Instance i is lost with its batches; nothing takes its place yet."""
    inst = inst_at(r["inst"], i)
    f, g = inst["fn"], inst["gpu"]
    fn = fn_at(r["fn"], f)
    was_ready, was_starting = inst["state"] == READY, inst["state"] == STARTING
    for k in range(batches.shape[0]):
        if batches[k, 0] != i:
            continue
        q = batches[k, 1]
        for _ in range(batches[k, 2]):
            following = req_at(r["req"], q)["next"]
            _fail(r, q, t)
            q = following
        fn["inflight"] -= batches[k, 2]
        gpu_at(r["gpu"], g)["running"] -= 1
        release(r, i, t)
    if was_ready and inst["queued"]:
        unqueue(r, i)
        release(r, i, t)
    bound = inst["bound"]
    lose_instance(r, i, t)
    if bound != NONE:
        fn["inflight"] -= 1
        _fail(r, bound, t)
    if was_starting and fn["n"] == 0:
        while fn["queued"] > 0:
            _fail(r, dequeue(r, f), t)
    if was_ready and fn["queued"] > 0:
        wait_for_memory(r, f)
    if fn["inflight"] == 0 and fn["queued"] == 0:
        fn["last_idle"] = t


@entry
def failed_at_once(rows, gone, gpus, batches, t):
    """Instances are lost; what they held is given out when all of them have been taken off.

    Args:
        rows: of the engine; the first alone.
        gone: the instances. Shape: (L,)
        gpus: of those that were ready. Shape: (G,)
        batches: instance, head and size of each batch on them. Shape: (K, 3)
        t: now.
    """
    r = rows[0]
    t = _at(r, t)
    for k in range(gone.shape[0]):
        _lose(r, gone[k], batches, t)
    for k in range(gpus.shape[0]):
        if gpu_at(r["gpu"], gpus[k])["exclusive"]:
            serve_gpu(r, gpus[k], t)
    serve_waiting(r, t)
