"""Instance slots: the free ones are chained through `next`."""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import hot
from stoker.envs.cluster.tables import FREE, NONE, inst_at


@hot
def take_free(r):
    """Take a free instance slot (the caller has checked that there is one)."""
    i = r["free_head"]
    inst = inst_at(r["inst"], i)
    r["free_head"] = inst["next"]
    r["free_n"] -= 1
    r["created"] += 1
    inst["created"] = r["created"]
    inst["inflight"], inst["open"], inst["queued"], inst["bound"] = 0, 0, 0, NONE
    inst["link"], inst["through"], inst["prev"], inst["next"] = NONE, NONE, NONE, NONE
    inst["owner"], inst["shard"], inst["legs"] = i, NONE, 0
    inst["freq"], inst["disk"], inst["pinned"], inst["noise"] = 0.0, 0, 0, 1.0
    inst["lane"] = NONE
    inst["timer"], inst["keep_until"] = math.inf, 0.0
    inst["last_start"], inst["idle_since"] = r["now"], r["now"]
    return i


@hot
def give_free(r, i):
    """Return a slot and its shards'."""
    j = i
    while j != NONE:
        part = inst_at(r["inst"], j)
        part["state"], part["next"] = FREE, r["free_head"]
        part["created"] = NONE
        r["free_head"] = j
        r["free_n"] += 1
        j = part["shard"]
