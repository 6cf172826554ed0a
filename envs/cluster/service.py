"""Requests: queues, batches, scale-out, completion.

A request waits in its function's queue until a rule binds it to an instance: to one of its own at
once (scale_out=per_request), or to the first with a free slot.  Units: seconds, bytes.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.envs.cluster.events import BATCH, DONE, PREWARM, push, quantize
from stoker.envs.cluster.eviction import SCORE as FIRST_SCAN
from stoker.envs.cluster.eviction import access, make_room, renew, score
from stoker.envs.cluster.features import bin_of, foresee, on_arrival, on_gap, put_back
from stoker.envs.cluster.instances import (
    MRU,
    NEWEST,
    REJECT,
    RUN,
    choose_open,
    close_slot,
    effect,
    make_busy,
    make_idle,
    open_slot,
    remove_instance,
    set_expiry,
    start_instance,
)
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.rules.hazard import expert_mass, hazard_plan
from stoker.envs.cluster.rules.hybrid_histogram import hybrid_gap, hybrid_plan
from stoker.envs.cluster.rules.residual import residual_multiplier
from stoker.envs.cluster.tables import (
    DROPPED,
    EXPERTS,
    NONE,
    WARM,
    f8_at,
    fn_at,
    gpu_at,
    i4_at,
    inst_at,
    req_at,
)

DECISION, HYBRID_HISTOGRAM, HAZARD_PLAN = 0, 1, 2
PER_REQUEST, TARGET_CONCURRENCY = 0, 1
MOST_FREE, FIRST_FIT = 0, 1
SPARE = 32
"""Heap places that one start can need beside one timer a function."""


@njit
def function_of(r, q):
    """Function that request q asks for."""
    return np.int64(i4_at(r["function"], q)["v"])


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
def dequeue(r, f):
    """Take the head of the queue of f."""
    fn = fn_at(r["fn"], f)
    q = fn["q_head"]
    fn["q_head"] = req_at(r["req"], q)["next"]
    fn["queued"] -= 1
    r["queued"] -= 1
    return q


@njit
def _begin(r, i, q, t):
    """Book the start of request q on instance i."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    req = req_at(r["req"], q)
    arrival = f8_at(r["arrival"], q)["v"]
    wait = t - arrival
    req["start"], req["inst"] = t, i
    late = inst["ready_t"] > arrival or inst["bound"] == q
    req["tier"] = inst["source"] if late else WARM
    fn["acc_wait_s"] += wait
    if arrival >= r["warmup"]:
        r["wait_s"] += wait
        if late:
            r["startup_wait_s"] += wait


@njit
def _service_s(r, i, head, n):
    """Service time of a batch of n whose first request is `head`."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    if r["cold_service"] != 0 and inst["bound"] == head:
        return f8_at(r["cold_service"], head)["v"]
    if r["service"] == 0:
        return fn["alpha_s"] + fn["beta_s"] * n
    longest = 0.0
    q = head
    for _ in range(n):
        longest = max(longest, f8_at(r["service"], q)["v"])
        q = req_at(r["req"], q)["next"]
    return longest + fn["beta_s"] * (n - 1)


@njit
def _run(r, i, head, n, t):
    """Execute a batch: the chain of n requests from `head`."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    q = head
    for _ in range(n):
        _begin(r, i, q, t)
        q = req_at(r["req"], q)["next"]
    fn["inflight"] += n
    gpu_at(r["gpu"], inst["gpu"])["running"] += 1
    if r["live"]:
        effect(r, RUN, i, inst["fn"], inst["gpu"], head, n)
    else:
        push(r, quantize(r, t + _service_s(r, i, head, n)), DONE, head, n)
    inst["bound"] = NONE


@njit
def _form_and_run(r, i, t):
    """Take a batch from the queue and run it; return False if nothing waits any more."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    n = min(fn["queued"], fn["max_batch"])
    if n == 0:
        return False
    head = fn["q_head"]
    for _ in range(n):
        dequeue(r, inst["fn"])
    access(r, i, t)
    _run(r, i, head, n, t)
    return True


@njit
def _claim(r, i, t):
    """Reserve one slot of instance i."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    close_slot(r, i)
    if inst["inflight"] == 0:
        make_busy(r, i, t)
    inst["inflight"] += 1
    if inst["inflight"] < fn["concurrency"]:
        open_slot(r, i)


@njit
def release(r, i, t):
    """Give one slot of instance i back; what it means to be idle follows in `settle`."""
    inst = inst_at(r["inst"], i)
    inst["inflight"] -= 1
    if inst["inflight"] == 0:
        make_idle(r, i, t)
    if inst["open"]:
        close_slot(r, i)
    open_slot(r, i)


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
def _taken(r, g):
    """Whether GPU g is exclusive and somebody runs or waits on it."""
    gpu = gpu_at(r["gpu"], g)
    return gpu["exclusive"] and (gpu["running"] > 0 or gpu["run_head"] != NONE)


@njit
def _choose_slot(r, f):
    """The first instance in clone order that can run now, else the first that can wait its turn."""
    waiting = NONE
    newest = r["clone"] == MRU or r["clone"] == NEWEST
    i = choose_open(r, f)
    while i != NONE:
        inst = inst_at(r["inst"], i)
        if not _taken(r, inst["gpu"]):
            return i
        if waiting == NONE and not inst["queued"]:
            waiting = i
        i = inst["prev"] if newest else inst["next"]
    return waiting


@njit
def dispatch(r, f, t):
    """Start batches of f while requests wait and slots are free.

    On an exclusive GPU that is taken the instance queues for it; it takes its batch when its turn
    comes, so one place in that queue is enough.
    """
    fn = fn_at(r["fn"], f)
    while fn["queued"] > 0:
        i = _choose_slot(r, f)
        if i == NONE or _must_wait(r, f, t):
            return
        if _taken(r, inst_at(r["inst"], i)["gpu"]):
            _claim(r, i, t)
            _wait_for_gpu(r, i)
            return
        _claim(r, i, t)
        _form_and_run(r, i, t)


@njit
def _wait_for_gpu(r, i):
    """Queue a claimed instance for its exclusive GPU."""
    inst = inst_at(r["inst"], i)
    gpu = gpu_at(r["gpu"], inst["gpu"])
    inst["queued"] = 1
    inst["link"] = NONE
    if gpu["run_tail"] == NONE:
        gpu["run_head"] = i
    else:
        inst_at(r["inst"], gpu["run_tail"])["link"] = i
    gpu["run_tail"] = i


@njit
def unqueue(r, i):
    """Take instance i out of the queue for its exclusive GPU."""
    inst = inst_at(r["inst"], i)
    gpu = gpu_at(r["gpu"], inst["gpu"])
    before = NONE
    k = gpu["run_head"]
    while k != i:
        before = k
        k = inst_at(r["inst"], k)["link"]
    if before == NONE:
        gpu["run_head"] = inst["link"]
    else:
        inst_at(r["inst"], before)["link"] = inst["link"]
    if gpu["run_tail"] == i:
        gpu["run_tail"] = before
    inst["queued"], inst["link"] = 0, NONE


@njit
def serve_gpu(r, g, t):
    """An exclusive GPU has become free: run the next claimed instance that has work."""
    gpu = gpu_at(r["gpu"], g)
    while gpu["running"] == 0 and gpu["run_head"] != NONE:
        i = gpu["run_head"]
        inst = inst_at(r["inst"], i)
        gpu["run_head"] = inst["link"]
        if gpu["run_head"] == NONE:
            gpu["run_tail"] = NONE
        inst["queued"], inst["link"] = 0, NONE
        if not _form_and_run(r, i, t):
            release(r, i, t)
            settle(r, i, t)


@njit
def choose_gpu(r, f, t, limit):
    """Make room for f on some GPU and return it, or NONE. `limit`: see `make_room`."""
    need = fn_at(r["fn"], f)["bytes"]
    best = NONE
    most = -1
    for g in range(r["gpus"]):
        gpu = gpu_at(r["gpu"], g)
        free = gpu["cap"] - gpu["used"]
        if free >= need:
            if r["placement"] == FIRST_FIT:
                return g
            if free > most:
                best, most = g, free
    if best != NONE:
        return best
    for g in range(r["gpus"]):
        gpu = gpu_at(r["gpu"], g)
        room = gpu["cap"] - gpu["used"] + gpu["evictable"]
        if (gpu["cap"] >= need or r["futile"]) and room > most:
            best, most = g, room
    if best != NONE and make_room(r, best, need, t, limit):
        return best
    return NONE


@njit
def wait_for_memory(r, f):
    """Queue function f for memory."""
    fn = fn_at(r["fn"], f)
    if fn["waiting"]:
        return
    fn["waiting"], fn["next_waiting"] = 1, NONE
    if r["wait_tail"] == NONE:
        r["wait_head"] = f
    else:
        fn_at(r["fn"], r["wait_tail"])["next_waiting"] = f
    r["wait_tail"] = f


@njit
def scale(r, f, t):
    """Start instances of f until slots, ready or loading, can hold all its requests."""
    fn = fn_at(r["fn"], f)
    slots = fn["concurrency"] * fn["max_batch"]
    wanted = min((fn["inflight"] + fn["queued"] + slots - 1) // slots, fn["max_instances"])
    while fn["n"] < wanted:
        if r["free_n"] == 0 or r["heap_cap"] - r["heap_n"] < r["fns"] + SPARE:
            r["starved"] = 1
            return False
        g = choose_gpu(r, f, t, math.inf)
        if g == NONE:
            return False
        i = start_instance(r, f, g, t)
        access(r, i, t)
    return True


@njit
def serve_waiting(r, t):
    """Memory may have become free: let the waiting functions try in order of their wait."""
    while r["wait_head"] != NONE:
        f = r["wait_head"]
        fn = fn_at(r["fn"], f)
        if fn["queued"] > 0 and not scale(r, f, t):
            return
        r["wait_head"] = fn["next_waiting"]
        if r["wait_head"] == NONE:
            r["wait_tail"] = NONE
        fn["waiting"] = 0


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
        if inst["inflight"] == 0 and quantize(r, anchor + fn["keep_alive_s"]) < t:
            r["expiries"] += 1
            remove_instance(r, i, t)
        i = following


@njit
def _bind(r, f, q, t):
    """per_request: give request q a free instance or one of its own, or refuse it."""
    fn = fn_at(r["fn"], f)
    if r["ttl_lazy"]:
        _purge(r, f, t)
    i = choose_open(r, f)
    if i != NONE:
        _claim(r, i, t)
        access(r, i, t)
        _run(r, i, q, 1, t)
        return
    g = NONE
    if fn["n"] < fn["max_instances"]:
        g = choose_gpu(r, f, t, math.inf)
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
            _close_gap(r, f, t)
        on_arrival(r, f, t)
    fn["arrivals"] += 1
    fn["acc_requests"] += 1
    fn["last_arrival"] = t
    if r["scale_out"] == PER_REQUEST:
        _bind(r, f, q, t)
        return
    enqueue(r, f, q)
    dispatch(r, f, t)
    if fn["queued"] > 0 and not scale(r, f, t):
        if (r["drop_overload"] and fn["n"] == 0) or not _fits(r, f):
            drop(r, dequeue(r, f), t)
        else:
            wait_for_memory(r, f)


@njit
def _fits(r, f):
    """Whether some GPU can hold an instance of f at all."""
    largest = 0
    for g in range(r["gpus"]):
        largest = max(largest, gpu_at(r["gpu"], g)["cap"])
    return largest >= fn_at(r["fn"], f)["bytes"]


@njit
def _close_gap(r, f, t):
    """The gap of f ends: note how likely each expert held it, then learn from it."""
    fn = fn_at(r["fn"], f)
    gap = t - fn["last_idle"]
    if r["pause"]:
        k = bin_of(r["first_bin"], gap)
        for e in range(EXPERTS):
            fn["closing"][e] = expert_mass(r, f, e, k)
    if r["plan"] == HYBRID_HISTOGRAM:
        hybrid_gap(r, f, gap)
    on_gap(r, f, gap)
    if r["oracle"] != 0:
        put_back(r, f)


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
    release(r, i, t)
    dispatch(r, f, t)
    if gpu_at(r["gpu"], g)["exclusive"]:
        serve_gpu(r, g, t)
    settle(r, i, t)


@njit
def settle(r, i, t):
    """If instance i has nothing to do, plan its idleness; pause there for an outside decision."""
    inst = inst_at(r["inst"], i)
    if inst["inflight"] > 0:
        return
    f = inst["fn"]
    fn = fn_at(r["fn"], f)
    if fn["inflight"] == 0 and fn["queued"] == 0:
        fn["last_idle"] = t
        fn["index_valid"] = 0
        if r["oracle"] != 0:
            foresee(r, f)
        if r["pause"] and r["pending"] == NONE:
            r["pending"] = f
            return
        if r["theta"] != 0:
            residual_multiplier(r, f, t)
        plan(r, f, t)
    set_expiry(r, i)


@njit
def plan(r, f, t):
    """Let the planning rule set the standing orders of f, which has become idle; set timers."""
    fn = fn_at(r["fn"], f)
    if r["plan"] == HAZARD_PLAN:
        hazard_plan(r, f)
    elif r["plan"] == HYBRID_HISTOGRAM:
        hybrid_plan(r, f)
    if fn["prewarm_after_s"] < math.inf:
        fn["prewarm_timer"] = t + fn["prewarm_after_s"]
        push(r, fn["prewarm_timer"], PREWARM, f, 0)
    else:
        fn["prewarm_timer"] = math.inf


@njit
def plan_idle(r, f, t):
    """Carry out the decision for which the engine paused."""
    plan(r, f, t)
    i = fn_at(r["fn"], f)["open_head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        following = inst["next"]
        if inst["inflight"] == 0:
            set_expiry(r, i)
        i = following


@njit
def prewarm(r, f, t, keep_s):
    """Load one instance of f ahead of demand if memory allows it without loss; keep it a while."""
    fn = fn_at(r["fn"], f)
    if fn["n"] >= fn["max_instances"]:
        return False
    if r["free_n"] == 0:
        r["refused"] += 1
        return False
    limit = 0.0
    if r["eviction"] >= FIRST_SCAN:
        limit = score(r, f, t - fn["last_idle"])
    g = choose_gpu(r, f, t, limit)
    if g == NONE:
        r["refused"] += 1
        return False
    i = start_instance(r, f, g, t)
    inst_at(r["inst"], i)["keep_until"] = t + keep_s
    renew(r, f, t)
    r["prewarms"] += 1
    return True
