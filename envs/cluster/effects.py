"""Orders to a real backend, recorded by the engine in live mode."""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import effect_at

LOAD, DROP, RUN, FETCH_HOST, DROP_HOST, REJECT = 0, 1, 2, 3, 4, 5
"""Effects: what a real backend is told to do."""


@njit
def effect(r, kind, i, f, g, a, b):
    """Record an order for the real backend (live.py sizes the buffer and checks the count)."""
    if r["effects"] >= r["effect_cap"]:
        r["effects"] += 1
        return
    e = effect_at(r["effect"], r["effects"])
    e["kind"], e["inst"], e["fn"], e["gpu"], e["a"], e["b"] = kind, i, f, g, a, b
    r["effects"] += 1
