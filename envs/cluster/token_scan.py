"""What the requests of LLM functions have waited for their first tokens, and what stands at a tick.

Requests come in order: those below a mark all have their first token (or are refused) and their
figures are summed for good; only those above it are looked at again.

Shapes: F functions.  Units: seconds, tokens; waits in targets of the first token.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.blocks import blocks_of
from stoker.envs.cluster.llm.lane_table import RUNS, lane_at
from stoker.envs.cluster.llm.tables import member_at, place_at
from stoker.envs.cluster.llm.tables import req_at as llm_req_at
from stoker.envs.cluster.requests import function_of
from stoker.envs.cluster.tables import DROPPED, FAILED, NONE, READY, fn_at, inst_at, req_at

MEMORY = np.dtype(
    [
        # requests below the mark: waits, late first tokens, refusals; all that have come, prompts
        ("past_wait", "f8"), ("past_first", "i8"), ("past_drop", "i8"),
        ("came", "i8"), ("asked", "i8"),
        # what the last ticks were charged, and the books of tokens at the last tick
        ("wait", "f8"), ("first", "i8"), ("drop", "i8"), ("share", "f8"), ("requests", "i8"),
        ("gaps", "i8"), ("late", "i8"), ("gap_s", "f8"), ("busy_s", "f8"), ("prompted", "i8"),
        # decayed: tokens, late ones; requests, late first tokens
        ("recent_gaps", "f8"), ("recent_late", "f8"), ("recent_came", "f8"), ("recent_first", "f8"),
        # now: requests above the mark, requests without a first token and their prompts
        ("now_wait", "f8"), ("now_first", "i8"), ("now_drop", "i8"),
        ("waiting", "i8"), ("tokens", "i8"), ("overdue", "i8"), ("oldest", "f8"),
        # now: its replicas, what they run, and their memory in blocks
        ("replicas", "i8"), ("decoding", "i8"), ("begun", "i8"), ("context", "i8"), ("free", "i8"),
        ("blocks", "i8"), ("places", "i8"),
    ],
    align=True,
)  # fmt: skip
"""A function of a row: what is remembered from tick to tick, and what was found at this one."""


MOST_WAIT = 10.0
"""Targets that a request is charged for waiting, at most."""


@njit
def target_of(r, f):
    """Target of the first token of function f."""
    return lane_at(r["lane"], fn_at(r["fn"], f)["llm"])["ttft_s"]


@njit
def _clear(r, own):
    for f in range(r["fns"]):
        m = own[f]
        m["now_wait"], m["oldest"] = 0.0, math.inf
        m["now_first"] = m["now_drop"] = m["waiting"] = m["tokens"] = m["overdue"] = 0
        m["replicas"] = m["decoding"] = m["begun"] = m["context"] = 0
        m["free"] = m["blocks"] = m["places"] = 0


@njit
def scan_requests(r, own, low, seen):
    """Sum up all requests that have come; return the new mark.

    Args:
        r: the row.
        own: filled. Shape: (F,)
        low: requests below have their first token.
        seen: requests below had come by the last tick.
    """
    _clear(r, own)
    settled = True
    for q in range(low, r["next_req"]):
        f = function_of(r, q)
        m, s, tier = own[f], llm_req_at(r["llm_req"], q), req_at(r["req"], q)["tier"]
        gone = tier in (DROPPED, FAILED)
        waits = not gone and math.isnan(s["first_token"])
        scored = s["arrival"] >= r["warmup"]
        if q >= seen:
            m["came"] += 1
            m["asked"] += s["prompt"]
            m["requests"] += scored
        wait_s = 0.0 if gone else (r["now"] if waits else s["first_token"]) - s["arrival"]
        late = wait_s > target_of(r, f)
        if waits:
            settled = False
            m["waiting"] += 1
            m["tokens"] += s["prompt"] - s["processed"]
            m["overdue"] += late
            m["oldest"] = min(m["oldest"], s["arrival"])
        if settled:
            low = q + 1
            m["past_wait"] += scored * min(wait_s / target_of(r, f), MOST_WAIT)
            m["past_first"] += scored and late
            m["past_drop"] += scored and gone
        elif scored:
            m["now_wait"] += min(wait_s / target_of(r, f), MOST_WAIT)
            m["now_first"] += late
            m["now_drop"] += gone
    return low


@njit
def _count(lane, q, ahead, m):
    """A request that holds blocks decodes, or its prompt is partly computed.

    Of the stretch that runs `ahead` iterations have ended, for which it has not been advanced yet.
    """
    s = llm_req_at(lane["req"], q)
    if s["processed"] < s["prompt"]:
        m["begun"] += 1
    else:
        m["decoding"] += 1
        m["context"] += s["processed"] + ahead
        beyond = s["processed"] + ahead - s["blocks"] * lane["block_size"]
        if beyond > 0:
            m["free"] -= blocks_of(lane, beyond)


@njit
def scan_replicas(r, own):
    """Sum up what the replicas of every function run; their books are up to date. Shape: (F,)"""
    for i in range(r["insts"]):
        inst = inst_at(r["inst"], i)
        if inst["state"] != READY or inst["lane"] == NONE:
            continue
        m, lane = own[inst["fn"]], lane_at(r["lane"], inst["lane"])
        m["replicas"] += 1
        m["free"] += lane["free"]
        m["blocks"] += lane["num_blocks"]
        m["places"] += lane["max_batch"]
        for j in range(lane["members"] if lane["phase"] == RUNS else 0):
            _count(lane, member_at(lane["batch"], j)["q"], lane["booked"], m)
        for j in range(lane["running"]):
            _count(lane, place_at(lane["run"], j)["q"], 0, m)
