"""Plain least frequently used.

Rule: priority = uses since the function became resident; the lowest leaves. Unlike `freq` there is
neither a clock nor a cost: what was popular once stays, however long ago that was.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import fn_at


@njit
def lfu_priority(r, f):
    """Priority of function f after a use."""
    return fn_at(r["fn"], f)["freq"]
