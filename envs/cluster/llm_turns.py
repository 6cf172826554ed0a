"""Iterations of LLM replicas as events: what the cluster books when one ends and the next begins.

At the end of a batch its members advance; those that are done complete, which may hand further
requests in; then the replica forms its next batch of all that is there. All that arrive at this
instant have come in before.  Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.batches import begin, release
from stoker.envs.cluster.idleness import settle
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.lane_table import DUE, END, FORM, OFF, RUNS, lane_at, take_turn
from stoker.envs.cluster.llm.tables import member_at
from stoker.envs.cluster.llm.tables import req_at as llm_req_at
from stoker.envs.cluster.llm_lanes import schedule
from stoker.envs.cluster.requests import drop
from stoker.envs.cluster.service import complete, dispatch
from stoker.envs.cluster.tables import NONE, fn_at, gpu_at, inst_at, req_at


@njit
def _complete_members(r, lane, t):
    """Answer every member of the batch that has its last token."""
    for m in range(lane["members"]):
        q = member_at(lane["batch"], m)["q"]
        s = llm_req_at(r["llm_req"], q)
        if s["processed"] == s["total"]:
            req_at(r["req"], q)["held"] = 0
            complete(r, q, 1, t)


@njit
def _refuse(r, i, q, t):
    """Request q, which its replica could not start again, is dropped."""
    inst = inst_at(r["inst"], i)
    f = inst["fn"]
    req_at(r["req"], q)["held"] = 0
    fn_at(r["fn"], f)["inflight"] -= 1
    gpu_at(r["gpu"], inst["gpu"])["running"] -= 1
    drop(r, q, t)
    release(r, i, t)
    dispatch(r, f, t)
    settle(r, i, t)


@njit
def _refuse_rejected(r, i, t):
    """Drop what the replica of instance i has rejected after a preemption."""
    for q in range(r["next_req"]):
        req = req_at(r["req"], q)
        if req["held"] and req["inst"] == i and llm_req_at(r["llm_req"], q)["rejected"]:
            _refuse(r, i, q, t)


@njit
def _begin_members(r, i, lane, t):
    """Book the start of every member that has never been scheduled before."""
    for m in range(lane["members"]):
        q = member_at(lane["batch"], m)["q"]
        first = llm_req_at(r["llm_req"], q)["first_scheduled"] == t
        if first and math.isnan(req_at(r["req"], q)["start"]):
            begin(r, i, q, t)


@njit
def take_llm_turn(r, k, stamp, t):
    """The batch of lane k is over, or its first is due."""
    lane = lane_at(r["lane"], k)
    if lane["stamp"] != stamp:
        return
    i = lane["inst"]
    if lane["phase"] == RUNS:
        take_turn(r["turn"], r["lane"], k, END, t)
        lane["phase"] = DUE
        _complete_members(r, lane, t)
    while lane["inst"] == i:  # else it has given way
        rejected = lane["rejected"]
        take_turn(r["turn"], r["lane"], k, FORM, t)
        if lane["rejected"] > rejected:
            _refuse_rejected(r, i, t)
        if lane["members"] > 0:
            _begin_members(r, i, lane, t)
            schedule(r, k, RUNS, t + lane["total_s"])
            return
        if lane["inbox_head"] == NONE:
            lane["phase"] = OFF
            return
