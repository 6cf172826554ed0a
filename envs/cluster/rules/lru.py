"""Least recently used.

Rule: priority = time of the last use; the lowest leaves.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit


@njit
def lru_priority(t):
    """Priority of a function used at t."""
    return t
