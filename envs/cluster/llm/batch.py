"""The batch that is being formed: its members, and the sums that its time depends on."""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.blocks import need, take
from stoker.envs.cluster.llm.iteration import chunk_s
from stoker.envs.cluster.llm.tables import member_at, req_at

FAR = 2**62


@njit
def open_batch(r):
    """Begin an empty batch."""
    r["members"], r["tokens"], r["chunks"], r["chunk_tokens"] = 0, 0, 0, 0
    r["decodes"], r["context"], r["preempted"] = 0, 0, 0
    r["least_left"] = FAR
    r["chunk_s"] = 0.0


@njit
def join_chunk(r, q, c):
    """Add c tokens of the prompt of q."""
    s = req_at(r["req"], q)
    m = member_at(r["batch"], r["members"])
    m["q"], m["tokens"] = q, c
    r["members"] += 1
    r["chunks"] += 1
    r["tokens"] += c
    r["chunk_tokens"] += c
    r["chunk_s"] += chunk_s(r, c, s["processed"])


@njit
def join_decode(r, q, s):
    """Add one output token of q."""
    m = member_at(r["batch"], r["members"])
    m["q"], m["tokens"] = q, 1
    r["members"] += 1
    r["decodes"] += 1
    r["tokens"] += 1
    r["context"] += s["processed"]
    r["least_left"] = min(r["least_left"], s["total"] - s["processed"])


@njit
def start(r, q, c):
    """Give q the blocks it starts with and add c tokens of its prompt."""
    s = req_at(r["req"], q)
    take(r, s, need(r, s))
    if math.isnan(s["first_scheduled"]):
        s["first_scheduled"] = r["now"]
    join_chunk(r, q, c)


@njit
def holders(r):
    """Requests that hold blocks: those of the batch and those that were left out of it."""
    return r["running"] + r["members"]
