"""FaasCache greedy-dual-size-frequency (ASPLOS 2021, section 4).

Rule: priority = clock + frequency x cost / size; the lowest leaves;
the clock becomes the priority of what was evicted.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import hot
from stoker.envs.cluster.tables import fn_at


@hot
def greedy_dual_priority(r, f):
    """Priority of function f after a use."""
    fn = fn_at(r["fn"], f)
    return r["clock"] + fn["freq"] * fn["cost"] / fn["cost_size"]
