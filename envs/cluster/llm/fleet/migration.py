"""Live migration of running requests from crowded replicas to free ones.

Rule: every `migrate_every_s`, if a replica of the function has freeness below `migrate_below`, the
one with least sends its shortest running decode to the one with most of those that have a place, if
that is not below, too, and has blocks above the watermark. Keys and values are copied in stages
while the request runs on: first all, then what has come since; when at most 16 blocks are left to
copy it leaves the running list at the end of an iteration, those are copied, and it joins the next
iteration of the target. Only this last stage stops it. It is given up when the request ends or
loses its memory, when the target lacks blocks or the place, or after three stages. One migration a
function at a time.
Nobody looks while no replica runs or loads: the next request that comes sets the ticks going again.

Source: Sun et al., "Llumnix: dynamic scheduling for large language model serving", OSDI 2024,
section 4.2; AlibabaPAI/llumnix 24220fb8 (threshold 3, 16 blocks, three stages).  Units: seconds,
tokens, blocks.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.blocks import blocks_of
from stoker.envs.cluster.llm.fleet.cut import cut
from stoker.envs.cluster.llm.fleet.evacuate import send_off
from stoker.envs.cluster.llm.fleet.handover import land, look_again, release
from stoker.envs.cluster.llm.fleet.memory import free_blocks
from stoker.envs.cluster.llm.fleet.routers.freeness import freeness
from stoker.envs.cluster.llm.fleet.routers.least_outstanding import outstanding
from stoker.envs.cluster.llm.fleet.scaling import ready
from stoker.envs.cluster.llm.fleet.tables import (
    BUSY,
    LOADING,
    f8_at,
    func_at,
    replica_at,
    route_at,
    row_at,
)
from stoker.envs.cluster.llm.stretch import steps_by
from stoker.envs.cluster.llm.tables import NONE, member_at, place_at, req_at

WAITS, COPIES, LEAVES, STOPPED = range(4)
LAST_BLOCKS, MOST_STAGES = 16, 3


@njit
def _at(f, function, v):
    """When to look at the function's migration next."""
    f8_at(f["next_s"], f["replicas"] + function)["v"] = v


@njit
def _reserve(f, fn, blocks):
    """Take blocks at the target if there are so many above its watermark."""
    k = fn["target"]
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    if blocks > 0:
        if free_blocks(f, k) - blocks < r["watermark"]:
            return False
        if p["state"] == BUSY:
            # It was planned on the blocks that are taken here.
            cut(f, k)
        r["free"] -= blocks
        r["least_free"] = min(r["least_free"], r["free"])
    fn["reserved"] += blocks
    return True


@njit
def wait(f, fn, function):
    """Wait for the next tick, a multiple of the period."""
    fn["phase"] = WAITS
    tick = fn["every_s"] * (math.floor(f["now"] / fn["every_s"]) + 1.0)
    # Late enough, the clock no longer resolves a period.
    _at(f, function, max(tick, np.nextafter(f["now"], np.inf)))


@njit
def wake(f, fn, function):
    """Set the ticks going, if nobody looks."""
    if fn["phase"] == WAITS and f8_at(f["next_s"], f["replicas"] + function)["v"] == math.inf:
        wait(f, fn, function)


@njit
def _is_at_rest(f, fn):
    """Whether no replica of the function runs or loads, so that only a request changes that."""
    for k in range(fn["first"], fn["first"] + fn["count"]):
        if replica_at(f["replica"], k)["state"] in (BUSY, LOADING):
            return False
    return True


@njit
def give_up(f, fn, function):
    """Leave the request where it is."""
    row_at(f["rows"], fn["target"])["free"] += fn["reserved"]
    look_again(f, fn["target"])
    fn["aborted"] += 1
    wait(f, fn, function)


@njit
def _shortest(f, k):
    """The running decode of k with fewest tokens; NONE if there is none."""
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    best, least = NONE, 2**62
    if p["state"] != BUSY:
        return best
    for i in range(r["members"]):
        q = member_at(r["batch"], i)["q"]
        s = req_at(r["req"], q)
        if s["processed"] > s["prompt"] and s["processed"] < least:
            best, least = q, s["processed"]
    return best


@njit
def _has_place(f, k):
    """Whether a replica may run one more request than it was handed."""
    return outstanding(f, k) < row_at(f["rows"], k)["max_batch"]


@njit
def _pair(f, fn):
    """Find source and target; returns whether there are both."""
    low, high = math.inf, -math.inf
    for k in range(fn["first"], fn["first"] + fn["count"]):
        if ready(replica_at(f["replica"], k)):
            found = freeness(f, k)
            if found < low:
                low, fn["source"] = found, k
            if found > high and _has_place(f, k):
                high, fn["target"] = found, k
    return low < fn["below"] and high >= fn["below"]


@njit
def _done_tokens(f, fn):
    """Tokens of the moving request whose keys and values exist at the present."""
    p, r = replica_at(f["replica"], fn["source"]), row_at(f["rows"], fn["source"])
    s = req_at(f["req"], fn["moving"])
    under_way = steps_by(r, p["steps"], f["now"] - p["start"])
    # Neither the last token put out nor the one under way has them.
    return s["processed"] - 1 + under_way - 1


@njit
def _is_there(f, fn):
    """Whether the moving request still runs at its source."""
    s = req_at(f["req"], fn["moving"])
    return math.isnan(s["completed"]) and s["restarts"] == fn["restarts"] and s["rejected"] == 0


@njit
def _begin(f, fn, function):
    """Choose a request and begin to copy it."""
    if _is_at_rest(f, fn):
        _at(f, function, math.inf)
        return
    q = _shortest(f, fn["source"]) if _pair(f, fn) else NONE
    fn["moving"] = q
    if q == NONE:
        wait(f, fn, function)
        return
    fn["reserved"] = fn["stages"] = fn["copied"] = 0
    fn["restarts"] = req_at(f["req"], q)["restarts"]
    tokens = _done_tokens(f, fn)
    if not _reserve(f, fn, blocks_of(row_at(f["rows"], fn["target"]), tokens)):
        wait(f, fn, function)
        return
    fn["phase"] = COPIES
    _copy(f, fn, function, tokens)


@njit
def _copy(f, fn, function, tokens):
    """Send what has come since the last stage."""
    _at(f, function, f["now"] + fn["token_s"] * (tokens - fn["copied"]))
    fn["copied"] = tokens
    fn["stages"] += 1


@njit
def _next_stage(f, fn, function):
    """A stage is over: one more, or the last."""
    tokens = _done_tokens(f, fn)
    target = row_at(f["rows"], fn["target"])
    more = blocks_of(target, tokens) - fn["reserved"]
    if not _is_there(f, fn) or not _reserve(f, fn, more):
        give_up(f, fn, function)
    elif tokens - fn["copied"] <= LAST_BLOCKS * target["block_size"]:
        fn["phase"] = LEAVES
        _at(f, function, math.inf)
        cut(f, fn["source"])
    elif fn["stages"] == MOST_STAGES:
        give_up(f, fn, function)
    else:
        _copy(f, fn, function, tokens)


@njit
def _take_out(r, q):
    """Take a request out of the running list."""
    kept = 0
    for i in range(r["running"]):
        at = place_at(r["run"], i)["q"]
        if at != q:
            place_at(r["run"], kept)["q"] = at
            kept += 1
    r["running"] = kept


@njit
def let_go(f, function):
    """The source has ended an iteration: the request leaves it, if it is to."""
    fn = func_at(f["func"], function)
    s = req_at(f["req"], fn["moving"])
    stays = not _is_there(f, fn) or not _has_place(f, fn["target"])
    if stays or not _reserve(f, fn, s["blocks"] - fn["reserved"]):
        give_up(f, fn, function)
        return
    _take_out(row_at(f["rows"], fn["source"]), fn["moving"])
    replica_at(f["replica"], fn["target"])["handed"] += 1
    fn["phase"] = STOPPED
    _copy(f, fn, function, s["processed"] - 1)


@njit
def migrate(f, function):
    """The next event of a function's migration."""
    fn = func_at(f["func"], function)
    if fn["phase"] == WAITS:
        _begin(f, fn, function)
    elif fn["phase"] == COPIES:
        _next_stage(f, fn, function)
    else:
        fn["migrations"] += 1
        route_at(f["route"], fn["moving"])["decoder"] = fn["target"]
        release(f, fn["source"], req_at(f["req"], fn["moving"])["blocks"])
        land(f, fn["target"], fn["moving"])
        wait(f, fn, function)


@njit
def abandon(f, fn, function, k):
    """Replica k is lost: what moves to it stays where it is, what moves from it begins again."""
    if fn["phase"] == WAITS or (k != fn["source"] and k != fn["target"]):
        return
    if fn["phase"] == STOPPED:
        replica_at(f["replica"], fn["target"])["handed"] -= 1
        if k == fn["source"]:
            send_off(f, k, fn["moving"])
        else:
            land(f, fn["source"], fn["moving"])
    give_up(f, fn, function)


@njit
def close(f, function, phase):
    """Give up what is under way when all requests are done."""
    if phase in (COPIES, LEAVES):
        give_up(f, func_at(f["func"], function), function)
