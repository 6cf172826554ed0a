"""Nodes that are lost, with everything on them, and come back.

A preemption is announced: the node drains as one that is not wanted does (capacity.py), until its
grace is over. What is there then, or when a node fails, is lost at once: instances, loads, host
copies, parked layers, the contents of a limited disk. Requests in service there go back to the head
of their queue (`retry`), or fail; under scale_out=per_request, where nobody queues, they fail. A
node that is to be had again comes up as one that is ordered does, if it is wanted.

Units: seconds, bytes.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.batches import release
from stoker.envs.cluster.capacity import follow_orders, set_closed
from stoker.envs.cluster.disk_tier import wipe_disk
from stoker.envs.cluster.events import DONE, FAULT, KIND_BITS, push
from stoker.envs.cluster.exclusive import unqueue
from stoker.envs.cluster.instances import lose_instance
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.links import clear, set_rate
from stoker.envs.cluster.llm_lanes import reset_tokens
from stoker.envs.cluster.order import rescore
from stoker.envs.cluster.placed import unpin
from stoker.envs.cluster.power import part
from stoker.envs.cluster.requests import requeue
from stoker.envs.cluster.scaling import PER_REQUEST
from stoker.envs.cluster.slowing import drop_batch
from stoker.envs.cluster.tables import (
    DRAINING,
    FAILED,
    FETCHING,
    IN_FLIGHT,
    NONE,
    READY,
    STARTING,
    UP,
    WARM,
    event_at,
    f8_at,
    fault_at,
    fn_at,
    gpu_at,
    inst_at,
    node_at,
    req_at,
)

NOTICE, RECLAIM, FAIL, REPAIR, RATE = 0, 1, 2, 3, 4
"""Kinds: a preemption announced and carried out, a failure, the end of a loss, a link's rate."""
STRUCK = 2
"""Value of `starved`: queues have to be looked at because nodes have come or gone."""


@njit
def _forget_start(r, q):
    """Request q, which was in service or with an LLM's replica, waits again from its arrival on."""
    req = req_at(r["req"], q)
    if req["held"]:
        reset_tokens(r, q)
        if math.isnan(req["start"]):
            return
    arrival = f8_at(r["arrival"], q)["v"]
    wait = req["start"] - arrival
    fn_at(r["fn"], inst_at(r["inst"], req["inst"])["fn"])["acc_wait_s"] -= wait
    if arrival >= r["warmup"]:
        r["wait_s"] -= wait
        if req["tier"] != WARM:
            r["startup_wait_s"] -= wait
    req["start"], req["tier"] = math.nan, IN_FLIGHT


@njit
def _give_back(r, f, q, t):
    """Request q loses its instance at t: it is tried again or has failed."""
    req = req_at(r["req"], q)
    if r["retry"] and r["scale_out"] != PER_REQUEST:
        _forget_start(r, q)
        requeue(r, f, q)
        r["retries"] += 1
        return
    req["tier"], req["finish"] = FAILED, t
    r["failed"] += 1
    fn_at(r["fn"], f)["acc_drops"] += 1


@njit
def _rest(r, f, t):
    """Function f, which has lost work, may have none left."""
    fn = fn_at(r["fn"], f)
    if fn["inflight"] == 0 and fn["queued"] == 0:
        fn["last_idle"] = t
        rescore(r, f)


@njit
def _lose_batch(r, i, head, n, t):
    """The batch of n requests from `head` is lost with instance i."""
    inst = inst_at(r["inst"], i)
    f = inst["fn"]
    q = head
    for _ in range(n):
        following = req_at(r["req"], q)["next"]
        _give_back(r, f, q, t)
        q = following
    fn_at(r["fn"], f)["inflight"] -= n
    gpu_at(r["gpu"], inst["gpu"])["running"] -= 1
    release(r, i, t)
    _rest(r, f, t)


@njit
def _lose_batches(r, n, t):
    """Stop the batches in service on node n; their events stay in the heap and mean nothing."""
    for k in range(r["heap_n"]):
        event = event_at(r["heap"], k)
        if event["key"] >> KIND_BITS == DONE and event["a"] != NONE:
            i = req_at(r["req"], event["a"])["inst"]
            if inst_at(r["inst"], i)["node"] == n:
                _lose_batch(r, i, event["a"], event["b"], t)
                event["a"] = NONE
    for q in range(r["next_req"] if r["llms"] else 0):
        req = req_at(r["req"], q)
        if req["held"] and inst_at(r["inst"], req["inst"])["node"] == n:
            _lose_batch(r, req["inst"], q, 1, t)
            req["held"] = 0
    for g in range(r["gpus"]):
        while gpu_at(r["gpu"], g)["node"] == n:
            head, size = drop_batch(r, g)
            if head == NONE:
                break
            _lose_batch(r, req_at(r["req"], head)["inst"], head, size, t)


@njit
def _lose_one(r, i, t):
    """Instance i, or a copy on its way to the host, is lost; no batch runs on it."""
    inst = inst_at(r["inst"], i)
    f, bound = inst["fn"], inst["bound"]
    if inst["state"] == READY and inst["queued"]:
        unqueue(r, i)
        release(r, i, t)
    unpin(r, i)
    lose_instance(r, i, t)
    if bound != NONE:
        fn_at(r["fn"], f)["inflight"] -= 1
        _give_back(r, f, bound, t)
        _rest(r, f, t)


@njit
def _clear_links(r, n, t):
    """Loads over the links of node n go no further."""
    nodes, gpus = r["nodes"], r["gpus"]
    clear(r, n, t)
    clear(r, nodes + gpus + n, t)
    clear(r, 2 * nodes + gpus + n, t)
    for g in range(gpus):
        if gpu_at(r["gpu"], g)["node"] == n:
            clear(r, nodes + g, t)


@njit
def _lose_node(r, n, t):
    """Everything on node n is lost, and it is off."""
    node = node_at(r["node"], n)
    if node["state"] == UP:
        node["state"] = DRAINING
        set_closed(r, n, 1)
    if node["state"] == DRAINING:
        _lose_batches(r, n, t)
        _clear_links(r, n, t)
        for i in range(r["insts"]):
            inst = inst_at(r["inst"], i)
            if inst["node"] == n and inst["state"] in (READY, STARTING, FETCHING):
                _lose_one(r, i, t)
        part(r, n, t)
    wipe_disk(r, n)


@njit
def strike(r, t):
    """The next fault of the schedule happens; set the timer of the one after it."""
    fault = fault_at(r["fault"], r["next_fault"])
    r["next_fault"] += 1
    if r["next_fault"] < r["faults"]:
        push(r, fault_at(r["fault"], r["next_fault"])["t"], FAULT, 0, 0)
    kind, n = fault["kind"], fault["at"]
    if kind == RATE:
        set_rate(r, n, fault["value"], t)
        return
    node = node_at(r["node"], n)
    if kind == NOTICE:
        node["noticed"] += 1
    elif kind == REPAIR:
        node["lost"] -= 1
    else:
        node["noticed"] -= kind == RECLAIM
        node["lost"] += 1
        _lose_node(r, n, t)
    follow_orders(r, t)
    r["starved"] = STRUCK
