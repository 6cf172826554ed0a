"""Round robin: the replicas of a function in turn, those that are down left out."""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.fleet.tables import DOWN, replica_at
from stoker.envs.cluster.llm.tables import NONE


@njit
def round_robin(f, fn):
    """Next replica of the function; NONE if all are down."""
    for i in range(fn["count"]):
        place = (fn["turn"] + i) % fn["count"]
        if replica_at(f["replica"], fn["first"] + place)["state"] > DOWN:
            fn["turn"] = (place + 1) % fn["count"]
            return fn["first"] + place
    return NONE
