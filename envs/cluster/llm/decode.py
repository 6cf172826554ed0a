"""Passes over the running requests: one token each, oldest first; preemption where blocks lack."""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.batch import join_decode
from stoker.envs.cluster.llm.blocks import is_full, lacks_block, preempt, take
from stoker.envs.cluster.llm.tables import NONE, member_at, place_at, req_at


@njit
def sort_running(r):
    """Order the running requests by arrival; those that arrived together stay as they are."""
    for i in range(1, r["running"]):
        q = place_at(r["run"], i)["q"]
        arrival = req_at(r["req"], q)["arrival"]
        k = i
        while k > 0:
            before = place_at(r["run"], k - 1)["q"]
            if req_at(r["req"], before)["arrival"] <= arrival:
                break
            place_at(r["run"], k)["q"] = before
            k -= 1
        place_at(r["run"], k)["q"] = q


@njit
def join_all(r):
    """One token for every running request, whose blocks are all reserved."""
    for i in range(r["running"]):
        q = place_at(r["run"], i)["q"]
        join_decode(r, q, req_at(r["req"], q))
    r["running"] = 0


@njit
def _make_room(r, q, i, n):
    """Preempt from the end of the places i .. n - 1, then q itself, until q can run.

    Returns what n becomes, NONE if q was preempted.
    """
    s = req_at(r["req"], q)
    while lacks_block(r, s):
        if n == i:
            preempt(r, q)
            return NONE
        n -= 1
        preempt(r, place_at(r["run"], n)["q"])
    return n


@njit
def _join_freely(r):
    """The same where every running request could have a new block: the usual case, made quick."""
    run, req, batch, size = r["run"], r["req"], r["batch"], r["block_size"]
    members, kept, taken, context, least_left = r["members"], 0, 0, 0, r["least_left"]
    first = members
    for i in range(r["running"]):
        q = place_at(run, i)["q"]
        s = req_at(req, q)
        processed, blocks = s["processed"], s["blocks"]
        if processed < s["prompt"]:
            place_at(run, kept)["q"] = q
            kept += 1
            continue
        if processed > blocks * size:
            s["blocks"] = blocks + 1
            taken += 1
        m = member_at(batch, members)
        m["q"], m["tokens"] = q, 1
        members += 1
        context += processed
        least_left = min(least_left, s["total"] - processed)
    r["running"], r["members"], r["least_left"] = kept, members, least_left
    r["decodes"] += members - first
    r["tokens"] += members - first
    r["context"] += context
    r["free"] -= taken
    r["least_free"] = min(r["least_free"], r["free"])


@njit
def join_running(r):
    """One token for every running request past its prompt; the others stay in the running list."""
    if r["free"] >= r["running"]:
        _join_freely(r)
        return
    n, kept, i = r["running"], 0, 0
    while i < n:
        q = place_at(r["run"], i)["q"]
        s = req_at(r["req"], q)
        i += 1
        if s["processed"] < s["prompt"]:
            place_at(r["run"], kept)["q"] = q
            kept += 1
            continue
        if r["free"] < 1:
            left = _make_room(r, q, i, n)
            if left == NONE:
                break
            n = left
        if is_full(r, s):
            take(r, s, 1)
        join_decode(r, q, s)
    r["running"] = kept
