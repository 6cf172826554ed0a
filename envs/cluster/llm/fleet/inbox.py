"""What a replica is handed; it looks at it when it forms its next batch."""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.blocks import need
from stoker.envs.cluster.llm.engine import enqueue
from stoker.envs.cluster.llm.fleet.cut import cut
from stoker.envs.cluster.llm.fleet.migration import wake
from stoker.envs.cluster.llm.fleet.tables import (
    BUSY,
    IDLE,
    f8_at,
    func_at,
    replica_at,
    row_at,
)
from stoker.envs.cluster.llm.stretch import looks_out
from stoker.envs.cluster.llm.tables import NONE, req_at


@njit
def look_up(f, k):
    """A request comes: a stretch ends if one that comes may be let in, as that of one replica."""
    p = replica_at(f["replica"], k)
    if p["state"] == BUSY and p["inbox"] == NONE and looks_out(row_at(f["rows"], k)):
        cut(f, k)


@njit
def hand(f, k, q):
    """Put a request into a replica's inbox."""
    p, r, s = replica_at(f["replica"], k), row_at(f["rows"], k), req_at(f["req"], q)
    look_up(f, k)
    s["next"] = NONE
    if p["inbox"] == NONE:
        p["inbox"] = q
    else:
        req_at(f["req"], p["inbox_tail"])["next"] = q
    p["inbox_tail"] = q
    p["handed"] += 1
    p["demand"] += need(r, s)
    f["open"] += 1
    fn = func_at(f["func"], p["function"])
    if fn["every_s"] > 0.0:
        wake(f, fn, p["function"])
    if p["state"] == IDLE:
        # Not at once: all that arrive at this instant can be in its first batch.
        f8_at(f["next_s"], k)["v"] = f["now"]


@njit
def take_inbox(p, r):
    """Queue what was handed to a replica."""
    q = p["inbox"]
    while q != NONE:
        s = req_at(r["req"], q)
        behind = s["next"]
        enqueue(r, q, s)
        q = behind
    p["inbox"] = NONE
