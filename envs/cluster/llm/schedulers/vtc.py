"""VTC: a virtual token counter a client; the one that had least service goes first.

Rule: a client's counter grows by `prompt_cost` a prompt token when a request of it starts, and by
`output_cost` an output token. Waiting prompts are taken from the client with the lowest counter,
until its head does not fit; the batch is then prompts only, else a token for every running request.
A client that comes back after a pause is lifted to the lowest counter of those that wait.

Memory is paged and preemption recomputes, as under vLLM; a recomputed prompt is not charged again.
A prompt longer than the budget is taken alone.

Source: Sheng et al., "Fairness in serving large language models", OSDI 2024, section 4;
Ying1123/VTC-artifact 192c2e20 (costs 1 and 2).
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.batch import holders, start
from stoker.envs.cluster.llm.blocks import can_start
from stoker.envs.cluster.llm.decode import join_running, sort_running
from stoker.envs.cluster.llm.queues import pop, push_back
from stoker.envs.cluster.llm.tables import NONE, member_at, queue_at, req_at


@njit
def _least_served(r):
    """The client that waits and had least service; NONE if nobody waits."""
    best = NONE
    for k in range(r["queues"]):
        queue = queue_at(r["queue"], k)
        if queue["n"] == 0:
            continue
        if best == NONE or queue["service"] < queue_at(r["queue"], best)["service"]:
            best = k
    return best


@njit
def join_client(r, q):
    """Queue a new request; lift its client if it had none waiting."""
    s = req_at(r["req"], q)
    s["queue"] = s["client"]
    queue = queue_at(r["queue"], s["client"])
    if queue["n"] == 0:
        least = _least_served(r)
        if least != NONE:
            queue["service"] = max(queue["service"], queue_at(r["queue"], least)["service"])
    push_back(r, q)


@njit
def form_vtc(r):
    """Form the next batch."""
    while r["waiting"] > 0 and holders(r) < r["max_batch"]:
        k = _least_served(r)
        queue = queue_at(r["queue"], k)
        s = req_at(r["req"], queue["head"])
        prompt = s["prompt"]
        too_many = r["members"] > 0 and r["tokens"] + prompt > r["budget"]
        if too_many or not can_start(r, s):
            break
        if s["restarts"] == 0:
            queue["service"] += r["prompt_cost"] * prompt
        start(r, pop(r, k), prompt)
    if r["members"] == 0:
        sort_running(r)
        join_running(r)


@njit
def none_fits(r):
    """Whether no client's head can start, whoever's turn it is."""
    if holders(r) >= r["max_batch"]:
        return True
    for k in range(r["queues"]):
        queue = queue_at(r["queue"], k)
        if queue["n"] > 0 and can_start(r, req_at(r["req"], queue["head"])):
            return False
    return True


@njit
def after_vtc(r, steps):
    """Charge every member's client for the tokens put out, `steps` at most a member."""
    for i in range(r["members"]):
        s = req_at(r["req"], member_at(r["batch"], i)["q"])
        if s["processed"] > s["prompt"]:
            queue_at(r["queue"], s["client"])["service"] += r["output_cost"] * steps
