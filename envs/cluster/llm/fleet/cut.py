"""Cut a stretch of iterations short, because something that concerns the replica has happened."""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.fleet.tables import f8_at, replica_at, row_at
from stoker.envs.cluster.llm.stretch import shorten


@njit
def cut(f, k):
    """End the stretch that a replica runs with the iteration under way."""
    p = replica_at(f["replica"], k)
    if p["steps"] == 1:
        return
    r = row_at(f["rows"], k)
    p["steps"], p["total_s"], p["first_s"], p["last_s"] = shorten(
        r, p["steps"], f["now"] - p["start"]
    )
    f8_at(f["next_s"], k)["v"] = p["start"] + p["total_s"]
