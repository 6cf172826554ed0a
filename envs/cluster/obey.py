"""New standing orders are carried out: what stands is looked at again, what is missing begins.

Units: seconds.
"""

from __future__ import annotations

from stoker.envs.cluster.capacity import follow_orders
from stoker.envs.cluster.engine import NOTICED, OVER, RUNNING, serve_queue
from stoker.envs.cluster.floors import take_up, uphold
from stoker.envs.cluster.host_tier import rescore_host, review_host
from stoker.envs.cluster.instances import expiry_of, remove_instance, set_expiry, timed
from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.layers import review_layers
from stoker.envs.cluster.llm_budget import order_budget
from stoker.envs.cluster.loading import fetch_host
from stoker.envs.cluster.order import rescore
from stoker.envs.cluster.placed import may_expire, standing
from stoker.envs.cluster.requests import dequeue, drop
from stoker.envs.cluster.scaling import fits, prewarm, serve_waiting
from stoker.envs.cluster.tables import NONE, fn_at, inst_at


@njit
def _obey(r, f):
    """Carry out the standing orders of f that a new Decision may have changed."""
    fn = fn_at(r["fn"], f)
    t = r["now"]
    rescore(r, f)
    if fn["gpu_class"] != NONE and not fits(r, f):
        fn["gpu_class"] = NONE
        r["clipped"] += 1
    if fn["drop_head"]:
        fn["drop_head"] = 0
        if fn["queued"] > 0:
            drop(r, dequeue(r, f), t)
    if r["llms"] and fn["llm"] != NONE:
        order_budget(r, f, t)
    i = fn["open_head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        following = inst["next"]
        if inst["inflight"] == 0:
            if expiry_of(r, i) <= t and may_expire(r, inst) and timed(r, i):
                r["expiries"] += 1
                remove_instance(r, i, t)
            else:
                set_expiry(r, i)
        i = following
    if fn["parked"] != NONE:
        review_layers(r, f, t)
    if fn["hosts"] > 0:
        rescore_host(r, f)
        for n in range(r["nodes"]):
            review_host(r, n, f, t)
    if fn["prewarm_host"]:
        fn["prewarm_host"] = 0
        fetch_host(r, f, t)
    while standing(fn) < fn["prewarm"]:
        if not prewarm(r, f, t, 0.0):
            break
    if fn["target_n"] > 0:
        uphold(r, f, t)
    if fn["queued"] > 0:
        serve_queue(r, f, t)


@entry
def obey_rows(rows):
    """Carry out new standing orders in every row."""
    for k in range(rows.shape[0]):
        r = rows[k]
        if r["status"] == OVER:
            continue
        if r["status"] == NOTICED:
            r["status"] = RUNNING
        if r["placing"]:
            take_up(r, r["now"])
            follow_orders(r, r["now"])
        for f in range(r["fns"]):
            _obey(r, f)
        if r["wait_head"] != NONE:
            serve_waiting(r, r["now"])
