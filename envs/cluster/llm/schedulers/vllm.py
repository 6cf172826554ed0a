"""vLLM (v0): waiting prompts first, whole and alone; else a token for every running request.

Rule: take waiting prompts, first come, first served, while blocks above the watermark, places and
the token limit last; if any was taken the batch is prompts only. Vidur counts a batch's tokens as
padded to its longest prompt, as vLLM before 0.2 did; preset `stoker` sums them.

Source: Kwon et al., SOSP 2023, section 4.5; limits as in vLLM 0.2 and later.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.batch import holders, start
from stoker.envs.cluster.llm.blocks import can_start
from stoker.envs.cluster.llm.decode import join_running, sort_running
from stoker.envs.cluster.llm.queues import pop
from stoker.envs.cluster.llm.tables import queue_at, req_at


@njit
def join_whole(r, limit):
    """Take waiting prompts, whole, as long as a batch has at most so many tokens."""
    longest = 0
    while r["waiting"] > 0 and holders(r) < r["max_batch"]:
        s = req_at(r["req"], queue_at(r["queue"], 0)["head"])
        prompt = s["prompt"]
        longest = max(longest, prompt)
        tokens = (r["members"] + 1) * longest if r["padded"] else r["tokens"] + prompt
        if tokens > limit or not can_start(r, s):
            break
        start(r, pop(r, 0), prompt)


@njit
def form_vllm(r):
    """Form the next batch."""
    join_whole(r, r["budget"])
    if r["members"] == 0:
        sort_running(r)
        join_running(r)
