"""FastServe: a skip-join multi-level feedback queue, preempting at every iteration.

Rule: level p has a quantum of q0 2^p. A request joins the first level whose quantum its prompt
needs; the batch takes from the highest level down; a request that has used more than its quantum
sinks by one level. Who has not run for `patience` when the iterations are a multiple of 1,000 goes
back to the top. A paused request keeps its blocks; when they run out, the one of lowest priority is
recomputed (the paper swaps to the host instead, which is not modelled).

Between two iterations all requests are in the levels' queues; `running` counts those that hold
blocks.

Source: Wu et al., "Fast distributed inference serving for large language models", 2023, section 4;
LLMServe/FastServe 187a2742 (quantum 10 ms, ratio 2, patience 3 s).  Units: seconds.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.batch import join_decode, start
from stoker.envs.cluster.llm.blocks import (
    can_ever_start,
    can_start,
    is_full,
    lacks_block,
    reject,
    reset,
    take,
)
from stoker.envs.cluster.llm.iteration import alone_s, steps_until
from stoker.envs.cluster.llm.queues import push_back, push_front, take_after
from stoker.envs.cluster.llm.tables import LEVELS, NONE, member_at, queue_at, req_at

LOOK_EVERY = 1000


@njit
def quantum_s(r, level):
    """Time that a request may use at a level."""
    return r["quantum"] * (1 << level)


@njit
def join_level(r, q):
    """Queue a new request at the first level whose quantum its prompt needs."""
    s = req_at(r["req"], q)
    prompt_s = alone_s(r, s["prompt"])
    level = 0
    while level < LEVELS - 1 and quantum_s(r, level) < prompt_s:
        level += 1
    s["queue"] = level
    s["last_step"] = r["now"]
    push_back(r, q)


@njit
def _last_holder(r):
    """The request of lowest priority that waits and holds blocks; NONE if none does."""
    if r["running"] == 0:
        return NONE
    for level in range(LEVELS - 1, -1, -1):
        found = NONE
        q = queue_at(r["queue"], level)["head"]
        for _ in range(queue_at(r["queue"], level)["n"]):
            s = req_at(r["req"], q)
            if s["blocks"] > 0:
                found = q
            q = s["next"]
        if found != NONE:
            return found
    return NONE


@njit
def _unlink(r, q):
    """Take q out of its queue, wherever it is."""
    level = req_at(r["req"], q)["queue"]
    before, at = NONE, queue_at(r["queue"], level)["head"]
    while at != q:
        before, at = at, req_at(r["req"], at)["next"]
    take_after(r, level, before)


@njit
def _fits(r, s, prompt_tokens, held_back):
    """Whether a request that holds no blocks may start in this batch."""
    # What was just taken from one is not for another to start on.
    if held_back or r["preempted"] > 0:
        return False
    if prompt_tokens > 0 and prompt_tokens + s["prompt"] > r["budget"]:
        return False
    return can_start(r, s)


@njit
def _go_on(r, q):
    """Put a request that was reset back, or refuse it if it can never start again."""
    s = req_at(r["req"], q)
    if can_ever_start(r, s):
        push_front(r, q)
    else:
        reject(r, s)


@njit
def _decode(r, q):
    """One token for q, taken out of its queue; blocks come from the lowest priority up.

    Returns whether the queues are as they were.
    """
    s = req_at(r["req"], q)
    intact = True
    while lacks_block(r, s):
        victim = _last_holder(r)
        if victim == NONE:
            reset(r, q)
            _go_on(r, q)
            return False
        reset(r, victim)
        r["running"] -= 1
        if not can_ever_start(r, req_at(r["req"], victim)):
            _unlink(r, victim)
            reject(r, req_at(r["req"], victim))
            intact = False
    if is_full(r, s):
        take(r, s, 1)
    join_decode(r, q, s)
    return intact


@njit
def form_fastserve(r):
    """Form the next batch."""
    if r["iterations"] > 0 and r["iterations"] % LOOK_EVERY == 0:
        _rescue(r)
    prompt_tokens, held_back = 0, False
    for level in range(LEVELS):
        before = NONE
        left = queue_at(r["queue"], level)["n"]
        while left > 0 and r["members"] < r["max_batch"]:
            if held_back and r["running"] == 0:
                return
            left -= 1
            queue = queue_at(r["queue"], level)
            q = queue["head"] if before == NONE else req_at(r["req"], before)["next"]
            s = req_at(r["req"], q)
            if s["blocks"] > 0:
                take_after(r, level, before)
                r["running"] -= 1
                if not _decode(r, q):
                    # Whoever is left has its turn in the next iteration.
                    return
            elif _fits(r, s, prompt_tokens, held_back):
                prompt_tokens += s["prompt"]
                start(r, take_after(r, level, before), s["prompt"])
            else:
                held_back = True
                before = q


@njit
def steps_within(r, fixed_s, floor, first_s, rise, most):
    """Iterations until a member has used up its quantum or others are looked after."""
    slack_s = 1e300
    for i in range(r["members"]):
        s = req_at(r["req"], member_at(r["batch"], i)["q"])
        if s["queue"] < LEVELS - 1:
            slack_s = min(slack_s, quantum_s(r, s["queue"]) - s["used_s"])
    most = min(most, LOOK_EVERY - r["iterations"] % LOOK_EVERY)
    return steps_until(fixed_s, floor, first_s, rise, slack_s, most)


@njit
def _run_on(r, q, span_s):
    """Book the time used, sink if it is more than the quantum, and queue again in front."""
    s = req_at(r["req"], q)
    if s["processed"] == s["total"]:
        return
    s["used_s"] += span_s
    s["last_step"] = r["now"]
    if s["used_s"] > quantum_s(r, s["queue"]) and s["queue"] < LEVELS - 1:
        s["queue"] += 1
        s["used_s"] = 0.0
    r["running"] += 1
    push_front(r, q)


@njit
def after_fastserve(r, span_s, steps):
    """Queue the members of a batch again after so many iterations.

    Each iteration puts them in front one by one, which turns the order within a level round.
    """
    first = 0
    while first < r["members"]:
        level = req_at(r["req"], member_at(r["batch"], first)["q"])["queue"]
        end = first + 1
        while end < r["members"]:
            if req_at(r["req"], member_at(r["batch"], end)["q"])["queue"] != level:
                break
            end += 1
        for i in range(first, end):
            k = i if steps % 2 else first + end - 1 - i
            _run_on(r, member_at(r["batch"], k)["q"], span_s)
        first = end


@njit
def _rescue(r):
    """Bring who has waited too long back to the top."""
    for level in range(1, LEVELS):
        before = NONE
        q = queue_at(r["queue"], level)["head"]
        for _ in range(queue_at(r["queue"], level)["n"]):
            s = req_at(r["req"], q)
            behind = s["next"]
            if r["now"] - s["last_step"] >= r["patience"]:
                take_after(r, level, before)
                s["queue"], s["used_s"] = 0, 0.0
                push_front(r, q)
            else:
                before = q
            q = behind
