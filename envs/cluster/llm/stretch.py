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
    return r["waiting"] == 0 or r["scheduler"] == FASTSERVE or r["scheduler"] == VTC


@njit
def stretch(r):
    """How many iterations to run in one step, 1 or more, and the time of all, first and last."""
    fixed_s = token_s(r, r["tokens"]) + r["host_s"]
    floor, base, slope = decode_parts(r, r["decodes"])
    start = base + slope * r["context"]
    rise = slope * r["decodes"]
    most = _most(r)
    if most > 1:
        most = _steps_in_memory(r, most)
    if most > 1 and r["scheduler"] == FASTSERVE:
        most = steps_within(r, fixed_s, floor, start, rise, most)
    if most > 1 and _arrival_matters(r):
        until_s = req_at(r["req"], r["next_req"])["arrival"] - r["now"]
        most = steps_until(fixed_s, floor, start, rise, until_s, most)
    total_s = span_s(fixed_s, floor, start, rise, most)
    last_s = fixed_s + max(floor, start + rise * (most - 1))
    return most, total_s, fixed_s + max(floor, start), last_s


@njit
def _most(r):
    """Iterations until the first request is done; 1 where each must be looked at."""
    if r["preempted"] > 0 or r["iterations"] < r["log_cap"]:
        return 1
    if r["scheduler"] == VTC and r["waiting"] > 0 and not none_fits(r):
        return 1
    return r["least_left"]
