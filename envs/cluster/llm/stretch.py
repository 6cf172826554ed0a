"""Several iterations in one step: how many follow in which nothing but the context changes.

A stretch begins with a batch of decodes only and ends at the first of: a request is done, blocks
run short, an arrival that may be let in, a scheduler's own limit. Who waits while a stretch runs
could not be let in at its start, and as blocks only get fewer cannot be before its end.

Units: seconds, tokens, blocks.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.blocks import blocks_of
from stoker.envs.cluster.llm.iteration import decode_parts, span_s, steps_until, token_s
from stoker.envs.cluster.llm.schedulers.fastserve import steps_within
from stoker.envs.cluster.llm.schedulers.vtc import none_fits
from stoker.envs.cluster.llm.tables import FASTSERVE, VTC, member_at, req_at


@njit
def _growth(r, steps):
    """Blocks that the batch takes after its first iteration, within so many."""
    total = 0
    for i in range(r["members"]):
        s = req_at(r["req"], member_at(r["batch"], i)["q"])
        beyond = s["processed"] + steps - 1 - s["blocks"] * r["block_size"]
        if beyond > 0:
            total += blocks_of(r, beyond)
    return total


@njit
def _steps_in_memory(r, most):
    """Most iterations for which blocks surely last."""
    room = r["free"] - r["test_always"]
    if r["reserve"] or r["members"] * blocks_of(r, most - 1) <= room:
        return most
    if _growth(r, most) <= room:
        return most
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        if _growth(r, middle) <= room:
            low = middle
        else:
            high = middle
    return low


@njit
def _arrival_matters(r):
    """Whether the next arrival may change the batch: always where queues are not in its order."""
    if r["next_req"] == r["reqs"]:
        return False
    return looks_out(r)


@njit
def looks_out(r):
    """Whether an arrival may be let in at once."""
    return r["waiting"] == 0 or r["scheduler"] == FASTSERVE or r["scheduler"] == VTC


@njit
def pace(r):
    """Time of the first of several iterations: its fixed part, floor and start; and the rise."""
    fixed_s = token_s(r, r["tokens"]) + r["host_s"]
    floor, base, slope = decode_parts(r, r["decodes"])
    return fixed_s, floor, base + slope * r["context"], slope * r["decodes"]


@njit
def times_s(fixed_s, floor, start, rise, steps):
    """Time of so many iterations, of the first and of the last."""
    total_s = span_s(fixed_s, floor, start, rise, steps)
    last_s = fixed_s + max(floor, start + rise * (steps - 1))
    return steps, total_s, fixed_s + max(floor, start), last_s


@njit
def stretch(r):
    """How many iterations to run in one step, 1 or more, and the time of all, first and last."""
    fixed_s, floor, start, rise = pace(r)
    most = _most(r)
    if most > 1:
        most = _steps_in_memory(r, most)
    if most > 1 and r["scheduler"] == FASTSERVE:
        most = steps_within(r, fixed_s, floor, start, rise, most)
    if most > 1 and _arrival_matters(r):
        until_s = req_at(r["req"], r["next_req"])["arrival"] - r["now"]
        most = steps_until(fixed_s, floor, start, rise, until_s, most)
    return times_s(fixed_s, floor, start, rise, most)


@njit
def shorten(r, steps, until_s):
    """End a stretch with the iteration that reaches `until_s` after its start."""
    fixed_s, floor, start, rise = pace(r)
    steps = steps_until(fixed_s, floor, start, rise, until_s, steps)
    return times_s(fixed_s, floor, start, rise, steps)


@njit
def steps_by(r, steps, until_s):
    """Iterations that a stretch of `steps` has begun `until_s` after its start."""
    if steps == 1:
        return steps
    fixed_s, floor, start, rise = pace(r)
    return steps_until(fixed_s, floor, start, rise, until_s, steps)


@njit
def ended_by(r, steps, until_s):
    """Iterations of a stretch that have ended `until_s` after its start, and times as above."""
    if steps == 1:
        return 0, 0.0, 0.0, 0.0
    fixed_s, floor, start, rise = pace(r)
    begun = steps_until(fixed_s, floor, start, rise, until_s, steps)
    times = times_s(fixed_s, floor, start, rise, begun)
    if times[1] > until_s:
        return times_s(fixed_s, floor, start, rise, begun - 1)
    return times


@njit
def growth_until(r, steps, until_s):
    """Blocks that a stretch of `steps` has taken since its first, `until_s` after its start."""
    if steps == 1:
        return 0
    return _growth(r, steps_by(r, steps, until_s))


@njit
def _most(r):
    """Iterations until the first request is done; 1 where each must be looked at."""
    if r["preempted"] > 0 or r["iterations"] < r["log_cap"]:
        return 1
    if r["scheduler"] == VTC and r["waiting"] > 0 and not none_fits(r):
        return 1
    return r["least_left"]
