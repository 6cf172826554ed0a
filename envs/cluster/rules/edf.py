"""Earliest deadline first (Liu and Layland, JACM 1973), over the heads of the queues.

Rule: deadline = arrival of the head + the function's slo_s; the earliest is next. What runs or is
loaded is not interrupted, and a loaded function goes on with its queue.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.requests import head_arrival
from stoker.envs.cluster.tables import fn_at


@njit
def deadline(r, f):
    """When the head of the queue of f is due."""
    return head_arrival(r, f) + fn_at(r["fn"], f)["slo_s"]
