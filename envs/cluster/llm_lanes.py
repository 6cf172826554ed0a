"""Replicas of LLM functions: a ready instance has one, and gives its requests to it.

An instance takes up to `concurrency` requests at a time; each holds one of its slots from the
moment it is handed over until its last token. The replica lets them in at the end of the iteration
that runs, in order of arrival, and serves them as `replay.llm_replica` does.  Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.events import LLM, push
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.engine import can_be_served as fits_replica
from stoker.envs.cluster.llm.lane_table import (
    COPIED_END,
    COPIED_FROM,
    CUT,
    DUE,
    LANE,
    OFF,
    RUNS,
    lane_at,
    take_turn,
)
from stoker.envs.cluster.llm.tables import queue_at
from stoker.envs.cluster.llm.tables import req_at as llm_req_at
from stoker.envs.cluster.placed import closed
from stoker.envs.cluster.requests import function_of
from stoker.envs.cluster.shares import book_share
from stoker.envs.cluster.tables import NONE, f8_at, fn_at, gpu_at, i4_at, inst_at, req_at

LANE_BYTES = LANE.itemsize


@njit
def take_lane(r, i):
    """Give instance i, which has become ready, a replica."""
    inst = inst_at(r["inst"], i)
    k = r["lane_free"]
    lane = lane_at(r["lane"], k)
    r["lane_free"] = lane["next"]
    here = r["lane"] + k * LANE_BYTES
    pattern = r["lane"] + fn_at(r["fn"], inst["fn"])["llm"] * LANE_BYTES
    for word in range(COPIED_FROM, COPIED_END):
        f8_at(here, word)["v"] = f8_at(pattern, word)["v"]
    for queue in range(lane["queues"]):
        queue_at(lane["queue"], queue)["n"] = 0
        queue_at(lane["queue"], queue)["service"] = 0.0
    lane["inst"], lane["phase"], lane["pattern"] = i, OFF, fn_at(r["fn"], inst["fn"])["llm"]
    lane["inbox_head"] = lane["inbox_tail"] = NONE
    inst["lane"] = k


@njit
def give_lane(r, i):
    """Instance i, whose replica is empty, leaves."""
    inst = inst_at(r["inst"], i)
    lane = lane_at(r["lane"], inst["lane"])
    lane["inst"], lane["phase"], lane["next"] = NONE, OFF, r["lane_free"]
    lane["stamp"] += 1
    r["lane_free"] = inst["lane"]
    inst["lane"] = NONE


@njit
def can_be_served(r, f, q):
    """Whether a request has tokens, and fits context and memory of a replica of f."""
    pattern = lane_at(r["lane"], fn_at(r["fn"], f)["llm"])
    s = llm_req_at(r["llm_req"], q)
    if s["prompt"] < 1 or s["total"] <= s["prompt"]:
        return False
    return fits_replica(pattern, s)


@njit
def least_outstanding(r, f, drain):
    """The instance with a free slot that has fewest requests, the first of equals, or NONE.

    `drain`: only one that has none.
    """
    best, fewest = NONE, 1 if drain else 2**62
    i = fn_at(r["fn"], f)["open_head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        if inst["inflight"] < fewest and not (r["placing"] and closed(r, inst)):
            best, fewest = i, inst["inflight"]
        i = inst["next"]
    return best


@njit
def hand_over(r, i, q, t):
    """Request q, which has a slot of instance i, goes to its replica."""
    inst = inst_at(r["inst"], i)
    fn, gpu = fn_at(r["fn"], inst["fn"]), gpu_at(r["gpu"], inst["gpu"])
    fn["inflight"] += 1
    gpu["running"] += 1
    gpu["last"] = inst["fn"]
    inst["bound"] = NONE
    if r["placing"] and fn["weighted"]:
        book_share(r, inst, 1)
    req = req_at(r["req"], q)
    req["inst"], req["held"] = i, 1
    k = inst["lane"]
    lane = lane_at(r["lane"], k)
    llm_req_at(r["llm_req"], q)["next"] = NONE
    if lane["inbox_head"] == NONE:
        lane["inbox_head"] = q
    else:
        llm_req_at(r["llm_req"], lane["inbox_tail"])["next"] = q
    lane["inbox_tail"] = q
    if lane["phase"] == OFF:
        schedule(r, k, DUE, t)
    elif lane["phase"] == RUNS:
        steps = lane["steps"]
        take_turn(r["turn"], r["lane"], k, CUT, t)
        if lane["steps"] < steps:
            schedule(r, k, RUNS, lane["began"] + lane["total_s"])


@njit
def schedule(r, k, phase, at):
    """Set the time of the next turn of lane k, in place of any other."""
    lane = lane_at(r["lane"], k)
    lane["phase"] = phase
    lane["stamp"] += 1
    push(r, at, LLM, k, lane["stamp"])


@njit
def reset_tokens(r, q):
    """Request q has lost its replica with all that was computed for it."""
    s = llm_req_at(r["llm_req"], q)
    s["prompt"] = i4_at(r["prompt"], q)["v"]
    s["processed"] = s["blocks"] = s["queue"] = 0
    s["first_scheduled"] = s["first_token"] = s["last_token"] = math.nan
    s["max_gap"], s["used_s"] = -1.0, 0.0


@njit
def waiting_s(r, f):
    """How long the requests of f that replicas have not begun have waited so far, all together."""
    total = 0.0
    for q in range(r["next_req"]):
        req = req_at(r["req"], q)
        if req["held"] and math.isnan(req["start"]) and function_of(r, q) == f:
            total += r["now"] - f8_at(r["arrival"], q)["v"]
    return total
