"""FaasCache's FREQ variant (ASPLOS 2021, section 4), aged least frequently used weighted by cost.

Rule: priority = clock + frequency x cost; the lowest leaves;
the clock becomes the priority of what was evicted.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import fn_at


@njit
def freq_priority(r, f):
    """Priority of function f after a use."""
    fn = fn_at(r["fn"], f)
    return r["clock"] + fn["freq"] * fn["cost"]
