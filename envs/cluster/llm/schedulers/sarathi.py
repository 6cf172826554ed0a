"""Sarathi-Serve: prompts in chunks beside the decodes, all within a token budget.

Rule: every running decode, one token each; then what is left of running prompts; then waiting
prompts, first come, first served; together at most `budget` tokens. No decode ever waits for a
prompt. A budget of 0 stands for the opposite: whole prompts first and alone, as vLLM has it, before
them what is left of prompts that were begun in chunks.

Source: Agrawal et al., "Taming throughput-latency tradeoff in LLM inference with Sarathi-Serve",
OSDI 2024, section 4.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.batch import holders, join_chunk, start
from stoker.envs.cluster.llm.blocks import can_start
from stoker.envs.cluster.llm.decode import join_running, sort_running
from stoker.envs.cluster.llm.queues import pop
from stoker.envs.cluster.llm.schedulers.vllm import join_whole
from stoker.envs.cluster.llm.tables import place_at, queue_at, req_at

LEAST_WHOLE = 2048
"""Tokens of a batch of whole prompts: this, or those of the longest request (vLLM's default)."""


@njit
def _join_prompts(r, budget):
    """Go on with running prompts; those that find no budget stay in the running list."""
    n, kept = r["running"], 0
    for i in range(n):
        q = place_at(r["run"], i)["q"]
        s = req_at(r["req"], q)
        c = min(s["prompt"] - s["processed"], budget - r["tokens"])
        if c > 0:
            join_chunk(r, q, c)
        else:
            place_at(r["run"], kept)["q"] = q
            kept += 1
    r["running"] = kept


@njit
def _form_whole(r):
    """Form a batch of prompts alone while there are any, else of all decodes."""
    budget = max(LEAST_WHOLE, r["max_tokens"])
    _join_prompts(r, budget)
    join_whole(r, budget)
    if r["members"] == 0:
        sort_running(r)
        join_running(r)


@njit
def form_sarathi(r):
    """Form the next batch."""
    if r["budget"] == 0:
        _form_whole(r)
        return
    # Vidur sorts only those that were left out.
    if r["resort"]:
        sort_running(r)
    join_running(r)
    _join_prompts(r, r["budget"])
    sort_running(r)
    while r["waiting"] > 0 and holders(r) < r["max_batch"]:
        s = req_at(r["req"], queue_at(r["queue"], 0)["head"])
        c = min(s["prompt"], r["budget"] - r["tokens"])
        if c <= 0 or not can_start(r, s):
            break
        start(r, pop(r, 0), c)
