"""Orca: iteration-level scheduling; whole prompts join the running decodes at once.

Rule: a token for every running request, then waiting prompts, first come, first served, while
there are places and blocks for the longest request there may be. Nothing is ever preempted.

Source: Yu et al., "Orca: a distributed serving system for transformer-based generative models",
OSDI 2022, section 4.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.batch import start
from stoker.envs.cluster.llm.decode import join_all
from stoker.envs.cluster.llm.queues import pop
from stoker.envs.cluster.llm.tables import queue_at, req_at


@njit
def admit_reserved(r):
    """Start waiting prompts, whole, while there are places and a full reservation of blocks."""
    while r["waiting"] > 0 and r["members"] < r["max_batch"] and r["free"] >= r["reserve"]:
        q = queue_at(r["queue"], 0)["head"]
        start(r, pop(r, 0), req_at(r["req"], q)["prompt"])


@njit
def form_orca(r):
    """Form the next batch."""
    join_all(r)
    admit_reserved(r)
