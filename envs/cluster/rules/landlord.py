"""Landlord (Young, On-line file caching, Algorithmica 2002), as greedy-dual with inflation.

Rule: a use restores the credit of f to its cost. When room is needed, every resident pays rent,
delta x size with delta = min credit / size, and one without credit leaves.
Instead of lowering every credit the clock rises by delta: priority = clock + cost / size, the
lowest leaves and the clock becomes its priority, so credit = (priority - clock) x size at any time
and an eviction takes O(log n). The two are equal because a use restores the credit in full. A
resident that is in service pays too but cannot leave: its credit stops at 0 in Young's form and
falls below here, which only orders those without credit, and Landlord leaves that order free.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import fn_at


@njit
def landlord_priority(r, f):
    """Priority of function f after a use."""
    fn = fn_at(r["fn"], f)
    return r["clock"] + fn["cost"] / fn["cost_size"]
