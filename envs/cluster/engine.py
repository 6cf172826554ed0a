"""The event loop: requests and events in order of time, one compiled entry for all rows.

Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.batches import claim, run
from stoker.envs.cluster.bill import charge, touch_gpu, touch_host, touch_price
from stoker.envs.cluster.capacity import come_up
from stoker.envs.cluster.disk_tier import leave_disk
from stoker.envs.cluster.events import (
    BATCH,
    DONE,
    EXPIRE,
    FAULT,
    HOST_EXPIRE,
    KIND_BITS,
    LINK,
    LLM,
    NODE,
    PHASE,
    PREWARM,
    SLOW_DONE,
    pop,
)
from stoker.envs.cluster.host_tier import arrive_host, copy_of, review_host
from stoker.envs.cluster.instances import expiry_of, remove_instance, set_expiry
from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.layers import parkable, review_layer
from stoker.envs.cluster.links import finished, leave, relink
from stoker.envs.cluster.llm_lanes import take_lane
from stoker.envs.cluster.llm_turns import take_llm_turn
from stoker.envs.cluster.loading import make_ready, next_phase
from stoker.envs.cluster.losses import STRUCK, strike
from stoker.envs.cluster.placed import may_expire, standing
from stoker.envs.cluster.power import part
from stoker.envs.cluster.requests import dequeue, drop
from stoker.envs.cluster.scaling import prewarm, scale, serve_waiting, wait_for_memory
from stoker.envs.cluster.service import arrive, complete, dispatch
from stoker.envs.cluster.slots import give_free
from stoker.envs.cluster.slowing import end_batch
from stoker.envs.cluster.span_loads import leg_over
from stoker.envs.cluster.tables import (
    FETCHING,
    NONE,
    PARKED,
    event_at,
    f8_at,
    fn_at,
    inst_at,
    node_at,
)

RUNNING, PAUSED, FULL_INSTANCES, FULL_HEAP, OVER, NOTICED = 0, 1, 2, 3, 4, 5
"""Why the loop returned: time reached, a decision is due, a buffer must grow, horizon passed, nodes
come or go and orders may be given."""
RESERVE = 64
"""Heap places kept free for the events that one event can cause beside completions."""


@njit
def alive(r, i, t):
    """Instance i has finished its start-up (or its fetch to the host)."""
    inst = inst_at(r["inst"], i)
    f = inst["fn"]
    fn = fn_at(r["fn"], f)
    if inst["disk"]:
        leave_disk(r, i, t)
    if inst["state"] == FETCHING:
        arrive_host(r, inst["node"], f, t)
        give_free(r, i)
        if r["placing"]:
            part(r, inst["node"], t)
        return
    make_ready(r, i, t)
    if r["llms"] and fn["llm"] != NONE:
        take_lane(r, i)
    q = inst["bound"]
    if q != NONE:
        fn["inflight"] -= 1  # `run` counts it again
        claim(r, i, t)
        run(r, i, q, 1, t)
    else:
        dispatch(r, f, t)
        if inst["inflight"] == 0:
            set_expiry(r, i)


@njit
def _expire(r, i, t):
    """The keep-alive timer of instance i, or of a parked layer, fires."""
    inst = inst_at(r["inst"], i)
    inst["timer"] = math.inf
    if inst["state"] == PARKED:
        review_layer(r, i, t)
        return
    if inst["inflight"] > 0:
        return
    if expiry_of(r, i) > t:
        set_expiry(r, i)
    elif may_expire(r, inst):
        r["expiries"] += 1
        remove_instance(r, i, t)


@njit
def _prewarm_due(r, f, t):
    """The one-shot prewarm of f fires."""
    fn = fn_at(r["fn"], f)
    if t != fn["prewarm_timer"]:
        return
    fn["prewarm_timer"] = math.inf
    if standing(fn) == 0:
        prewarm(r, f, t, fn["prewarm_keep_s"])
        return
    i = fn["open_head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        inst["keep_until"] = max(inst["keep_until"], t + fn["prewarm_keep_s"])
        i = inst["next"]


@njit
def _after_phase(r, i, t):
    i = leg_over(r, i)
    if i != NONE and next_phase(r, i, t):
        alive(r, i, t)


@njit
def _handle(r, kind, a, b, t):
    """Handle one event."""
    if kind == DONE:
        if a != NONE:  # else lost meanwhile
            complete(r, a, b, t)
    elif kind == SLOW_DONE:
        head, n = end_batch(r, a, b, t)
        if head != NONE:
            complete(r, head, n, t)
    elif kind == PHASE:
        inst = inst_at(r["inst"], a)
        if (inst["created"] & 0x7FFFFFFF) == b:
            if inst["link"] != NONE:
                leave(r, a, t)
            _after_phase(r, a, t)
    elif kind == LINK:
        i = finished(r, a, b, t)
        if i != NONE:
            leave(r, i, t)
            _after_phase(r, i, t)
        else:
            relink(r, a, b, t)
    elif kind == EXPIRE:
        inst = inst_at(r["inst"], a)
        if (inst["created"] & 0x7FFFFFFF) == b and inst["timer"] <= t:
            _expire(r, a, t)
    elif kind == HOST_EXPIRE:
        copy = copy_of(r, b, a)
        if copy["timer"] == t:
            copy["timer"] = math.inf
            review_host(r, b, a, t)
    elif kind == PREWARM:
        _prewarm_due(r, a, t)
    elif kind == BATCH:
        fn = fn_at(r["fn"], a)
        if not r["batching"] or fn["batch_timer"] == t:  # else it was set anew
            fn["batch_timer"] = math.inf
            serve_queue(r, a, t)
    elif kind == NODE:
        if node_at(r["node"], a)["stamp"] == b:
            come_up(r, a, t)
    elif kind == FAULT:
        strike(r, t)
    elif kind == LLM:
        take_llm_turn(r, a, b, t)
    else:  # ORDER: the waiting functions are looked at after every event
        fn_at(r["fn"], a)["order_timer"] = math.inf


@njit
def serve_queue(r, f, t):
    """Run what waits in the queue of f, or start instances for it, or wait for memory."""
    dispatch(r, f, t)
    if fn_at(r["fn"], f)["queued"] > 0 and not scale(r, f, t):
        wait_for_memory(r, f)


@njit
def _go_on(r, t):
    """Go on where slots ran out, or nodes have come or gone; return whether to tell the policy."""
    struck = r["starved"] == STRUCK
    r["starved"] = 0
    for f in range(r["fns"] if struck else 0):
        fn = fn_at(r["fn"], f)
        if fn["queued"] > 0:
            serve_queue(r, f, t)
        if r["drop_overload"] and standing(fn) == 0 and not r["starved"]:
            while fn["queued"] > 0:
                drop(r, dequeue(r, f), t)
    serve_waiting(r, t)
    return struck and r["heed"] == 1


@njit
def advance(r, until):
    """Process everything before `until` (and at it, once the horizon is reached)."""
    last = until >= r["horizon"]
    until = min(until, r["horizon"])
    while True:
        if r["free_n"] < r["spans"] + parkable(r) or (r["llms"] and r["lane_free"] == NONE):
            return FULL_INSTANCES
        used = r["heap_n"] + r["slowed_n"]
        if r["heap_cap"] - used < r["queued"] + r["fns"] + RESERVE + parkable(r):
            return FULL_HEAP
        if r["starved"]:
            if _go_on(r, r["now"]):
                return NOTICED
            continue
        if r["pending"] != NONE:
            return PAUSED
        t = math.inf
        if r["heap_n"] > 0:
            t = event_at(r["heap"], 0)["t"]
        arrival = math.inf
        if r["next_req"] < r["reqs"]:
            arrival = f8_at(r["arrival"], r["next_req"])["v"]
        soonest = min(t, arrival)
        if soonest > until or (soonest == until and not last):
            r["now"] = max(r["now"], until)
            return OVER if last else RUNNING
        r["now"] = soonest
        r["events"] += 1
        event = event_at(r["heap"], 0)
        if t < arrival or (t == arrival and event["key"] >> KIND_BITS < LLM):
            kind, a, b = event["key"] >> KIND_BITS, event["a"], event["b"]
            pop(r)
            _handle(r, kind, a, b, t)
        else:
            q = r["next_req"]
            r["next_req"] = q + 1
            arrive(r, q, arrival)
        if r["wait_head"] != NONE and r["starved"] != STRUCK:
            serve_waiting(r, r["now"])


@njit
def close(r):
    """Book everything up to now."""
    for g in range(r["gpus"]):
        touch_gpu(r, g, r["now"])
    for n in range(r["nodes"]):
        touch_host(r, n, r["now"])
    touch_price(r, r["now"])
    for f in range(r["fns"]):
        charge(r, f, r["now"])


@entry
def close_rows(rows):
    """Book everything up to each row's present."""
    for k in range(rows.shape[0]):
        close(rows[k])
