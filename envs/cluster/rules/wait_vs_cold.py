"""CIDRE's choice between a delayed warm start and a cold start (Liu et al., ASPLOS 2025).

Rule: a request that finds no free slot waits for one of its function if that is estimated to be
free before an instance started now would be ready; else an instance is started, if memory allows.
Whichever is ready first serves it. The estimate: batches in service end at start + alpha + beta n,
or, where requests have service times of their own, after the mean of those seen so far; loads end
after the start-up time of an idle node; then full batches follow each other in every slot. An
instance with several batches in service is taken to free each of those slots at their mean end.
The paper's own estimator and its eviction by concurrency are not reproduced.

Units: seconds.
"""

from __future__ import annotations

from stoker.envs.cluster.gpu_class import times_on
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import (
    HOST,
    NONE,
    REMOTE,
    STARTING,
    fn_at,
    gpu_at,
    inst_at,
    nf_at,
    req_at,
)

WAIT_VS_COLD = 2
"""Its code among the rules of scale-out; the list of instances is kept for it alone."""
LEAST_S = 1e-9
"""Service time that a batch of no duration counts with."""


@njit
def join_peers(r, i):
    """List a new instance among all those of its function."""
    if r["scale_out"] != WAIT_VS_COLD:
        return
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    inst["ends"] = 0.0
    inst["peer_prev"], inst["peer_next"] = NONE, fn["peers"]
    if fn["peers"] != NONE:
        inst_at(r["inst"], fn["peers"])["peer_prev"] = i
    fn["peers"] = i


@njit
def leave_peers(r, i):
    """Take an instance that leaves off that list."""
    if r["scale_out"] != WAIT_VS_COLD:
        return
    inst = inst_at(r["inst"], i)
    if inst["peer_prev"] == NONE:
        fn_at(r["fn"], inst["fn"])["peers"] = inst["peer_next"]
    else:
        inst_at(r["inst"], inst["peer_prev"])["peer_next"] = inst["peer_next"]
    if inst["peer_next"] != NONE:
        inst_at(r["inst"], inst["peer_next"])["peer_prev"] = inst["peer_prev"]


@njit
def _known_s(r, inst, n):
    """What is known beforehand of the service time of a batch of n on an instance."""
    if r["service"] != 0:
        return 0.0
    times = times_on(r, inst["fn"], inst["gpu"])
    return times["alpha_s"] + times["beta_s"] * n


@njit
def batch_started(r, i, n, t):
    """Book a batch of n that instance i begins at t."""
    inst = inst_at(r["inst"], i)
    inst["ends"] += t + _known_s(r, inst, n)


@njit
def batch_done(r, i, head, n, t):
    """Book its end, and learn from the time that it took."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    start = req_at(r["req"], head)["start"]
    inst["ends"] -= start + _known_s(r, inst, n)
    fn["batches"] += 1
    fn["service_s"] += (t - start - fn["service_s"]) / fn["batches"]


@njit
def _batch_s(r, inst):
    """Expected service time of a full batch on an instance."""
    fn = fn_at(r["fn"], inst["fn"])
    if r["service"] != 0 and fn["batches"] > 0:
        return fn["service_s"]
    times = times_on(r, inst["fn"], inst["gpu"])
    return times["alpha_s"] + times["beta_s"] * fn["max_batch"]


@njit
def _load_s(r, inst):
    there = nf_at(r["nf"], inst["node"] * r["fns"] + inst["fn"])
    if inst["source"] == REMOTE:
        return there["remote_s"]
    return there["host_s"] if inst["source"] == HOST else there["disk_s"]


@njit
def _start_s(fn):
    """Start-up time of a new instance on an idle node."""
    if fn["hosts"] > 0:
        return fn["load_host_s"]
    return fn["load_disk_s"] if fn["disks"] > 0 else fn["load_remote_s"]


@njit
def _begin_by(at, by, slots, batch_s):
    """Batches that slots which are free from `at` on can begin up to `by`."""
    return 0 if at > by else slots * (int((by - at) / max(batch_s, LEAST_S)) + 1)


@njit
def slot_is_sooner(r, f, t):
    """Whether the last request in the queue of f gets a slot before a new instance is ready."""
    fn = fn_at(r["fn"], f)
    ready = t + _start_s(fn)
    unserved = (fn["queued"] + fn["max_batch"] - 1) // fn["max_batch"]
    i = fn["peers"]
    while i != NONE and unserved > 0:
        inst = inst_at(r["inst"], i)
        slots, batch_s = fn["concurrency"], _batch_s(r, inst)
        if r["placing"] and gpu_at(r["gpu"], inst["gpu"])["closed"]:
            pass
        elif inst["state"] == STARTING:
            loaded = inst["last_start"] + _load_s(r, inst)
            unserved -= _begin_by(max(loaded, t), ready, slots, batch_s)
        else:
            taken = inst["inflight"]
            unserved -= _begin_by(t, ready, slots - taken, batch_s)
            if taken > 0:
                end = inst["ends"] / taken + (batch_s if r["service"] != 0 else 0.0)
                unserved -= _begin_by(max(end, t), ready, taken, batch_s)
        i = inst["peer_next"]
    return unserved <= 0
