"""Prompts and decodes on replicas of their own, with keys and values sent over a link between them.

Rule: a request whose prompt is done keeps its blocks and waits, first come, first served, until a
decoding replica accepts it: the one with the fewest requests among those with a place, with nobody
that waits to be computed again, and with blocks above the watermark. These are taken at once; the
link, one a function, carries one request after the other. Then the blocks at the prompt's replica
are free, and the request joins the next iteration of the other. Its first token comes with the end
of the prompt. A decoding replica that runs out of blocks computes its victim again itself.

Source: Zhong et al., "DistServe: disaggregating prefill and decoding for goodput-optimized large
language model serving", OSDI 2024, section 4; LLMServe/DistServe 82831f16 (which admits up to a
fraction of waiting blocks, and swaps victims to the host).  Units: seconds, blocks.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.fleet.cut import cut
from stoker.envs.cluster.llm.fleet.evacuate import send_off
from stoker.envs.cluster.llm.fleet.routers.least_outstanding import outstanding
from stoker.envs.cluster.llm.fleet.scaling import ready
from stoker.envs.cluster.llm.fleet.tables import (
    BUSY,
    IDLE,
    LOST,
    f8_at,
    func_at,
    replica_at,
    route_at,
    row_at,
)
from stoker.envs.cluster.llm.stretch import growth_until
from stoker.envs.cluster.llm.tables import NONE, place_at, req_at


@njit
def _join_ready(f, fn, q):
    """Put a request at the end of those that wait to be accepted."""
    req_at(f["req"], q)["next"] = NONE
    if fn["ready"] == NONE:
        fn["ready"] = q
    else:
        req_at(f["req"], fn["ready_tail"])["next"] = q
    fn["ready_tail"] = q


@njit
def _join_sent(f, fn, q):
    """Put a request at the end of those that the link carries."""
    req_at(f["req"], q)["next"] = NONE
    if fn["sent"] == NONE:
        fn["sent"] = q
    else:
        req_at(f["req"], fn["sent_tail"])["next"] = q
    fn["sent_tail"] = q


@njit
def _note_due(f, fn, function):
    """Note when the link has carried the first."""
    due = math.inf if fn["sent"] == NONE else route_at(f["route"], fn["sent"])["due"]
    f8_at(f["next_s"], f["replicas"] + function)["v"] = due


@njit
def hand_over(f, k):
    """Take those whose prompt is done out of the running list of k."""
    r, function = row_at(f["rows"], k), replica_at(f["replica"], k)["function"]
    fn = func_at(f["func"], function)
    kept = 0
    for i in range(r["running"]):
        q = place_at(r["run"], i)["q"]
        s = req_at(r["req"], q)
        if s["processed"] < s["prompt"]:
            place_at(r["run"], kept)["q"] = q
            kept += 1
            continue
        _join_ready(f, fn, q)
    r["running"] = kept
    accept(f, function)


@njit
def _has_room(f, k, s):
    """Whether a decoding replica can accept a request now."""
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    count = outstanding(f, k)
    if r["waiting"] > 0 or count >= r["max_batch"]:
        return False
    left = r["free"] - s["blocks"]
    if p["state"] == BUSY:
        left -= growth_until(r, p["steps"], f["now"] - p["start"])
    # An empty replica needs no room for the growth of others.
    return left >= (r["watermark"] if count > 0 else 0)


@njit
def _decoder_for(f, fn, s):
    """The decoding replica that accepts a request; NONE if none does."""
    best, least = NONE, 2**62
    first = fn["first"] + fn["count"]
    for k in range(first, first + fn["decoders"]):
        up = ready(replica_at(f["replica"], k))
        if up and outstanding(f, k) < least and _has_room(f, k, s):
            best, least = k, outstanding(f, k)
    return best


@njit
def _all_lost(f, fn):
    """Whether no decoding replica is there or loads."""
    first = fn["first"] + fn["count"]
    for k in range(first, first + fn["decoders"]):
        if replica_at(f["replica"], k)["state"] != LOST:
            return False
    return True


@njit
def _fail(f, q):
    """A request whose prompt is done finds nobody to decode it."""
    s, route = req_at(f["req"], q), route_at(f["route"], q)
    blocks = s["blocks"]
    s["blocks"] = 0
    route["failed"] = 1
    f["open"] -= 1
    release(f, route["replica"], blocks)


@njit
def accept(f, function):
    """Send what waits to decoding replicas, as far as they have room; it fails if all are lost."""
    fn = func_at(f["func"], function)
    while fn["ready"] != NONE:
        q = fn["ready"]
        s = req_at(f["req"], q)
        k = _decoder_for(f, fn, s)
        if k == NONE and not _all_lost(f, fn):
            return
        fn["ready"] = s["next"]
        if k == NONE:
            _fail(f, q)
            continue
        p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
        if p["state"] == BUSY:
            # It was planned on the blocks that are taken here.
            cut(f, k)
        # Those at the prompt's replica are held until the link has carried them.
        r["free"] -= s["blocks"]
        r["least_free"] = min(r["least_free"], r["free"])
        p["handed"] += 1
        route_at(f["route"], q)["decoder"] = k
        _send(f, fn, function, q)


@njit
def _send(f, fn, function, q):
    """Put a request on the link."""
    s, route = req_at(f["req"], q), route_at(f["route"], q)
    # The token that came with the end of the prompt has no keys and values yet.
    fn["link_s"] = max(fn["link_s"], f["now"]) + fn["token_s"] * (s["processed"] - 1)
    route["due"] = fn["link_s"]
    fn["transfers"] += 1
    _join_sent(f, fn, q)
    _note_due(f, fn, function)


@njit
def deliver(f, function):
    """The link has carried a request: it leaves one replica and lands on the other."""
    fn = func_at(f["func"], function)
    q = fn["sent"]
    s, route = req_at(f["req"], q), route_at(f["route"], q)
    fn["sent"] = s["next"]
    _note_due(f, fn, function)
    release(f, route["replica"], s["blocks"])
    land(f, route["decoder"], q)


@njit
def look_again(f, k):
    """Blocks came free between two batches: who waits may start."""
    p = replica_at(f["replica"], k)
    if row_at(f["rows"], k)["waiting"] == 0:
        return
    if p["state"] == IDLE:
        f8_at(f["next_s"], k)["v"] = f["now"]
    elif p["state"] == BUSY:
        cut(f, k)


@njit
def release(f, k, blocks):
    """Free the blocks that a request held where it comes from."""
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    r["free"] += blocks
    p["handed"] -= 1
    look_again(f, k)


@njit
def recall(f, function, k):
    """Replica k is lost: what it was to send begins again, what it was to get waits."""
    fn = func_at(f["func"], function)
    q, fn["ready"] = fn["ready"], NONE
    while q != NONE:
        behind = req_at(f["req"], q)["next"]
        _keep(f, fn, k, q)
        q = behind
    q, fn["sent"] = fn["sent"], NONE
    while q != NONE:
        s, route = req_at(f["req"], q), route_at(f["route"], q)
        behind = s["next"]
        if route["replica"] == k or route["decoder"] == k:
            release(f, route["decoder"], s["blocks"])
            _keep(f, fn, k, q)
        else:
            _join_sent(f, fn, q)
        q = behind
    _note_due(f, fn, function)


@njit
def _keep(f, fn, k, q):
    """Let a request wait to be sent, unless its keys and values were on k."""
    if route_at(f["route"], q)["replica"] == k:
        send_off(f, k, q)
    else:
        _join_ready(f, fn, q)


@njit
def land(f, k, q):
    """Let a request join the next iteration of a replica."""
    p = replica_at(f["replica"], k)
    req_at(f["req"], q)["next"] = NONE
    if p["landed"] == NONE:
        p["landed"] = q
    else:
        req_at(f["req"], p["landed_tail"])["next"] = q
    p["landed_tail"] = q
    if p["state"] == IDLE:
        f8_at(f["next_s"], k)["v"] = f["now"]
    elif p["state"] == BUSY:
        cut(f, k)


@njit
def take_landed(r, p):
    """Let those that landed join the running list, as far as there are places."""
    # Who came while a request was on its way may have its place.
    while p["landed"] != NONE and r["running"] < r["max_batch"]:
        q = p["landed"]
        place_at(r["run"], r["running"])["q"] = q
        r["running"] += 1
        p["landed"] = req_at(r["req"], q)["next"]
