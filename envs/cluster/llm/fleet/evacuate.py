"""Take the requests off a replica: they begin again elsewhere, and keep what they have put out.

Their blocks are free at once. Those that had begun compute their prompt and their output so far
again before the next token; what was done of a prompt is lost.

Units: tokens, blocks.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.blocks import give_back
from stoker.envs.cluster.llm.fleet.tables import replica_at, row_at
from stoker.envs.cluster.llm.queues import pop
from stoker.envs.cluster.llm.tables import FASTSERVE, NONE, place_at, queue_at, req_at


@njit
def send_off(f, k, q):
    """Take a request, which is in no list any more, off replica k, to those that are astray."""
    r, s = row_at(f["rows"], k), req_at(f["req"], q)
    if s["blocks"] > 0:
        give_back(r, s)
        s["prompt"] = max(s["prompt"], s["processed"])
        s["processed"] = 0
        s["used_s"] = 0.0
        s["restarts"] += 1
        r["restarts"] += 1
    s["next"] = NONE
    if f["astray"] == NONE:
        f["astray"] = q
    else:
        req_at(f["req"], f["astray_tail"])["next"] = q
    f["astray_tail"] = q
    f["open"] -= 1


@njit
def _send_off_all(f, k, q):
    """Take a linked list of requests off replica k."""
    while q != NONE:
        behind = req_at(f["req"], q)["next"]
        send_off(f, k, q)
        q = behind


@njit
def evacuate(f, k):
    """Take all requests off a replica between two batches; who runs comes first."""
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    # Those of FastServe are all in its queues.
    if r["scheduler"] != FASTSERVE:
        for i in range(r["running"]):
            send_off(f, k, place_at(r["run"], i)["q"])
    r["running"] = 0
    _send_off_all(f, k, p["landed"])
    for i in range(r["queues"]):
        while queue_at(r["queue"], i)["n"] > 0:
            send_off(f, k, pop(r, i))
    _send_off_all(f, k, p["inbox"])
    p["landed"] = p["inbox"] = NONE
    p["handed"], p["demand"] = r["done"] + r["rejected"], 0
