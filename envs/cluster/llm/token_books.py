"""Tokens that come later than a target after the one before: counted when a batch ends, or before.

In a stretch every decode but the first has the time of an iteration as its gap, and iterations
only get longer: those over the target are the last ones.

Units: seconds, tokens.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.stretch import pace
from stoker.envs.cluster.llm.tables import member_at, req_at


@njit
def _longer(s, steps, limit_s):
    """Of the first iterations of the stretch of a lane, but its first, those over a limit."""
    if steps <= 1 or s["last_s"] <= limit_s:
        return 0
    fixed_s, floor, start, rise = pace(s)
    if fixed_s + max(floor, start + rise * (steps - 1)) <= limit_s:
        return 0
    if fixed_s + max(floor, start + rise) > limit_s:
        return steps - 1
    within = int((limit_s - fixed_s - start) / rise)  # rounded either way
    while fixed_s + max(floor, start + rise * (within + 1)) <= limit_s:
        within += 1
    while fixed_s + max(floor, start + rise * within) > limit_s:
        within -= 1
    return steps - 1 - within


@njit
def book_tokens(books, s, steps, total_s):
    """Count what the batch of lane s has put out in so many iterations, if not counted yet.

    Args:
        books: where.
        s: the lane; its members have not been advanced.
        steps: iterations that have ended.
        total_s: their time.
    """
    limit_s, more = books["tbt_s"], steps - s["booked"]
    if more <= 0:
        return
    first = s["booked"] == 0
    slow = _longer(s, steps, limit_s) - _longer(s, s["booked"], limit_s)
    spent_s = total_s - s["booked_s"]
    books["busy_s"] += spent_s
    if first:
        books["prompt_tokens"] += s["chunk_tokens"]
    for m in range(s["members"]):
        member = member_at(s["batch"], m)
        q = req_at(s["req"], member["q"])
        done = q["processed"] + member["tokens"]
        if q["processed"] < q["prompt"] and (done < q["prompt"] or math.isnan(q["first_token"])):
            continue  # no token, or its first; such batches run once
        late = slow
        books["gaps"] += more
        books["gap_s"] += spent_s
        if first:
            gap = s["began"] + s["first_s"] - q["last_token"]
            late += gap > limit_s
            books["gap_s"] += gap - s["first_s"]
            books["worst_s"] = max(books["worst_s"], gap)
        if more > 1 or not first:
            books["worst_s"] = max(books["worst_s"], s["last_s"])
        if late > 0 and q["arrival"] >= books["warmup"]:
            q["late"] += late
            books["late"] += late
            books["late_share"] += late / max(q["output"] - 1, 1)
    s["booked"], s["booked_s"] = steps, total_s
