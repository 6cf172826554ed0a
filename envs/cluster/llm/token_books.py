"""Tokens that come later than a target after the one before: counted when an iteration ends.

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
def _longer(s, limit_s):
    """Iterations of the stretch of a lane, after its first, that take longer than a limit."""
    steps = s["steps"]
    if steps == 1 or s["last_s"] <= limit_s:
        return 0
    fixed_s, floor, start, rise = pace(s)
    if fixed_s + max(floor, start + rise) > limit_s:
        return steps - 1
    within = int((limit_s - fixed_s - start) / rise)  # rounded either way
    while fixed_s + max(floor, start + rise * (within + 1)) <= limit_s:
        within += 1
    while fixed_s + max(floor, start + rise * within) > limit_s:
        within -= 1
    return steps - 1 - within


@njit
def book_tokens(books, s):
    """Count what the batch of lane s, which is over and has not been booked, has put out."""
    limit_s, steps = books["tbt_s"], s["steps"]
    slow = _longer(s, limit_s)
    books["busy_s"] += s["total_s"]
    books["prompt_tokens"] += s["chunk_tokens"]
    for m in range(s["members"]):
        member = member_at(s["batch"], m)
        q = req_at(s["req"], member["q"])
        late = slow
        done = q["processed"] + member["tokens"]
        if q["processed"] < q["prompt"] and (done < q["prompt"] or math.isnan(q["first_token"])):
            continue  # no token, or its first; such batches run once
        gap = s["began"] + s["first_s"] - q["last_token"]
        late += gap > limit_s
        books["gaps"] += steps
        books["gap_s"] += gap + s["total_s"] - s["first_s"]
        books["worst_s"] = max(books["worst_s"], gap, s["last_s"])
        if late > 0 and q["arrival"] >= books["warmup"]:
            q["late"] += late
            books["late"] += late
            books["late_share"] += late / max(q["output"] - 1, 1)
