"""Batches on instances: a slot is claimed, a batch formed and run, the slot given back.

Units: seconds.
"""

from __future__ import annotations

from stoker.envs.cluster.effects import RUN, effect
from stoker.envs.cluster.events import DONE, push, quantize
from stoker.envs.cluster.eviction import access
from stoker.envs.cluster.instances import close_slot, make_busy, make_idle, open_slot
from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.llm_lanes import hand_over
from stoker.envs.cluster.requests import dequeue
from stoker.envs.cluster.rules.wait_vs_cold import WAIT_VS_COLD, batch_started
from stoker.envs.cluster.service_time import takes_s
from stoker.envs.cluster.shares import book_share
from stoker.envs.cluster.slowing import begin_batch
from stoker.envs.cluster.tables import NONE, WARM, f8_at, fn_at, gpu_at, inst_at, req_at


@hot
def begin(r, i, q, t):
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
def run(r, i, head, n, t):
    """Execute a batch: the chain of n requests from `head`."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    if r["llms"] and inst["lane"] != NONE:
        hand_over(r, i, head, t)
        return
    q = head
    for _ in range(n):
        begin(r, i, q, t)
        q = req_at(r["req"], q)["next"]
    fn["inflight"] += n
    gpu = gpu_at(r["gpu"], inst["gpu"])
    gpu["running"] += 1
    gpu["last"] = inst["fn"]
    if r["scale_out"] == WAIT_VS_COLD:
        batch_started(r, i, n, t)
    if r["placing"] and fn["weighted"]:
        book_share(r, inst, n)
    if r["live"]:
        effect(r, RUN, i, inst["fn"], inst["gpu"], head, n)
    elif gpu["slows"]:
        begin_batch(r, inst["gpu"], inst["fn"], head, n, takes_s(r, i, head, n, t), t)
    else:
        push(r, quantize(r, t + takes_s(r, i, head, n, t)), DONE, head, n)
    inst["bound"] = NONE


@njit
def run_next(r, i, n, t):
    """Run the first n requests that wait, on instance i, a slot of which is claimed."""
    f = inst_at(r["inst"], i)["fn"]
    head = fn_at(r["fn"], f)["q_head"]
    for _ in range(n):
        dequeue(r, f)
    access(r, i, t)
    run(r, i, head, n, t)


@njit
def form_and_run(r, i, t):
    """Take a batch from the queue and run it; return False if nothing waits any more."""
    fn = fn_at(r["fn"], inst_at(r["inst"], i)["fn"])
    n = min(fn["queued"], fn["max_batch"])
    if n == 0:
        return False
    run_next(r, i, n, t)
    return True


@hot
def claim(r, i, t):
    """Reserve one slot of instance i."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    close_slot(r, i)
    if inst["inflight"] == 0:
        make_busy(r, i, t)
    inst["inflight"] += 1
    if inst["inflight"] < fn["concurrency"]:
        open_slot(r, i)


@hot
def release(r, i, t):
    """Give one slot of instance i back; what it means to be idle follows in `settle`."""
    inst = inst_at(r["inst"], i)
    inst["inflight"] -= 1
    if inst["inflight"] == 0:
        make_idle(r, i, t)
    if inst["open"]:
        close_slot(r, i)
    open_slot(r, i)
