"""The queue of instances for a GPU that runs one batch at a time."""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import NONE, gpu_at, inst_at


@njit
def taken(r, g):
    """Whether GPU g is exclusive and somebody runs or waits on it."""
    gpu = gpu_at(r["gpu"], g)
    return gpu["exclusive"] and (gpu["running"] > 0 or gpu["run_head"] != NONE)


@njit
def wait_for_gpu(r, i):
    """Queue a claimed instance for its exclusive GPU."""
    inst = inst_at(r["inst"], i)
    gpu = gpu_at(r["gpu"], inst["gpu"])
    inst["queued"] = 1
    inst["link"] = NONE
    if gpu["run_tail"] == NONE:
        gpu["run_head"] = i
    else:
        inst_at(r["inst"], gpu["run_tail"])["link"] = i
    gpu["run_tail"] = i


@njit
def unqueue(r, i):
    """Take instance i out of the queue for its exclusive GPU."""
    inst = inst_at(r["inst"], i)
    gpu = gpu_at(r["gpu"], inst["gpu"])
    before = NONE
    k = gpu["run_head"]
    while k != i:
        before = k
        k = inst_at(r["inst"], k)["link"]
    if before == NONE:
        gpu["run_head"] = inst["link"]
    else:
        inst_at(r["inst"], before)["link"] = inst["link"]
    if gpu["run_tail"] == i:
        gpu["run_tail"] = before
    inst["queued"], inst["link"] = 0, NONE
