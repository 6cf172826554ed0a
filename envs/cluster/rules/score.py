"""Eviction by the score that the policy's last Decision gave each function.

Rule: the lowest score leaves.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import fn_at


@njit
def decision_score(r, f):
    """Standing score of function f."""
    return fn_at(r["fn"], f)["eviction_score"]
