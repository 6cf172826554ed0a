"""Paged key-value memory, by count: admission under a watermark, growth, preemption by recompute.

A request takes the blocks of its prompt when it starts, and one more whenever its tokens fill what
it has; one whose scheduler reserves takes them all at once.

Source: Kwon et al., "Efficient memory management for large language model serving with
PagedAttention", SOSP 2023, sections 4.3 and 4.5 (vLLM).  Units: tokens, blocks.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.queues import push_front
from stoker.envs.cluster.llm.tables import VLLM, req_at


@njit
def blocks_of(r, tokens):
    """Blocks that so many tokens fill."""
    return (tokens + r["block_size"] - 1) // r["block_size"]


@njit
def need(r, s):
    """Blocks that a request takes when it starts."""
    if r["reserve"]:
        return r["reserve"]
    return blocks_of(r, s["prompt"])


@njit
def can_start(r, s):
    """Whether the blocks for its prompt are free, and the watermark beyond them."""
    left = r["free"] - need(r, s)
    # An empty replica needs no room for the growth of others; Vidur keeps it all the same.
    if not r["test_always"] and r["free"] == r["num_blocks"]:
        return left >= 0
    return left >= r["watermark"]


@njit
def can_ever_start(r, s):
    """Whether an empty replica could start it: else it would wait for ever."""
    if r["scheduler"] == VLLM and s["prompt"] > r["budget"]:
        return False
    margin = r["watermark"] if r["test_always"] else 0
    return need(r, s) + margin <= r["num_blocks"]


@njit
def take(r, s, count):
    """Give a request blocks."""
    s["blocks"] += count
    r["free"] -= count
    r["least_free"] = min(r["least_free"], r["free"])


@njit
def give_back(r, s):
    """Free all blocks of a request."""
    r["free"] += s["blocks"]
    s["blocks"] = 0


@njit
def is_full(r, s):
    """Whether its next token needs another block."""
    return s["processed"] > s["blocks"] * r["block_size"]


@njit
def lacks_block(r, s):
    """Whether it cannot run its next token; Vidur asks for a block even where none is needed."""
    return r["free"] < 1 and (r["test_always"] or is_full(r, s))


@njit
def reset(r, q):
    """Take a request's memory: what it had computed becomes prompt, to be computed again.

    Vidur does so with a half-done prompt as well, whose rest then counts as output.
    """
    s = req_at(r["req"], q)
    give_back(r, s)
    if s["processed"] >= s["prompt"] or not r["keep_prompt"]:
        s["prompt"] = s["processed"]
    s["processed"] = 0
    s["restarts"] += 1
    r["restarts"] += 1
    r["preempted"] += 1


@njit
def reject(r, s):
    """Refuse a request that can never be served."""
    s["rejected"] = 1
    r["rejected"] += 1


@njit
def preempt(r, q):
    """Reset a running request and put it at the head of its queue."""
    reset(r, q)
    s = req_at(r["req"], q)
    if can_ever_start(r, s):
        push_front(r, q)
    else:
        reject(r, s)
