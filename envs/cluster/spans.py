"""Instances over several GPUs (tensor parallel): what one does, it does on each of its GPUs.

The slot of an instance stands for its first GPU; a slot in state SHARD for each further one hangs
on it through `shard` and names it as `owner`. Each holds fn["bytes"] on its GPU. On every GPU the
function counts in the eviction order, in the bytes that can be evicted and in the kinds of GPU-time
as the instance does: all load, all are busy, all are idle, all are left. An instance on one GPU has
no shards, and the loops below run once.  Units: seconds, bytes.
"""

from __future__ import annotations

from stoker.envs.cluster.bill import touch_gpu
from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.order import count_idle, delist, enlist, slot_of
from stoker.envs.cluster.sharing import make_evictable, make_needed, occupy, vacate
from stoker.envs.cluster.slowing import loads_changed
from stoker.envs.cluster.tables import NONE, READY, inst_at


@hot
def enter_gpu(r, f, g, t):
    """A start-up of f begins on GPU g; return the weights that it has to load."""
    gpu = touch_gpu(r, g, t)
    moves = occupy(r, f, g, t)
    gpu["loading"] += 1
    gpu["resident"] += 1
    if gpu["batch_beside_load"] != 1.0:
        loads_changed(r, g, t)
    slot = slot_of(r, g, f)
    slot["n"] += 1
    if slot["n"] == 1:
        enlist(r, g, f)
    return moves


@hot
def _one_less(r, g, t):
    """A load onto GPU g has ended."""
    gpu = touch_gpu(r, g, t)
    gpu["loading"] -= 1
    if gpu["batch_beside_load"] != 1.0:
        loads_changed(r, g, t)


@hot
def end_loading(r, i, t):
    """Instance i has been loaded and is idle on its GPUs."""
    j = i
    while j != NONE:
        part = inst_at(r["inst"], j)
        f, g = part["fn"], part["gpu"]
        _one_less(r, g, t)
        make_evictable(r, f, g, 1)
        count_idle(r, g, f, 1)
        j = part["shard"]


@njit
def stop_loading(r, i, t):
    """The load of instance i is lost."""
    j = i
    while j != NONE:
        part = inst_at(r["inst"], j)
        _one_less(r, part["gpu"], t)
        j = part["shard"]


@hot
def _count_busy_on(r, f, g, t, n):
    touch_gpu(r, g, t)["busy"] += n
    if n > 0:
        make_needed(r, f, g)
    else:
        make_evictable(r, f, g, 0)
    count_idle(r, g, f, -n)


@hot
def count_busy(r, i, t, n):
    """Idle instance i takes work (n = 1), or has none left (n = -1)."""
    inst = inst_at(r["inst"], i)
    _count_busy_on(r, inst["fn"], inst["gpu"], t, n)
    j = inst["shard"]
    while j != NONE:
        part = inst_at(r["inst"], j)
        _count_busy_on(r, inst["fn"], part["gpu"], t, n)
        j = part["shard"]


@hot
def no_more_idle(r, i):
    """Idle instance i is about to leave its GPUs."""
    j = i
    while j != NONE:
        part = inst_at(r["inst"], j)
        count_idle(r, part["gpu"], part["fn"], -1)
        j = part["shard"]


@hot
def leave_gpus(r, i, t):
    """Free the device memory of instance i, which loads or is idle and counted so no more."""
    ready = inst_at(r["inst"], i)["state"] == READY
    j = i
    while j != NONE:
        part = inst_at(r["inst"], j)
        f, g = part["fn"], part["gpu"]
        touch_gpu(r, g, t)["resident"] -= 1
        slot = slot_of(r, g, f)
        slot["n"] -= 1
        if slot["n"] == 0:
            delist(r, g, f)
        vacate(r, f, g, ready, t)
        j = part["shard"]


@hot
def stands_on(r, i, g):
    """Whether GPU g is one of those of instance i."""
    j = i
    while j != NONE:
        part = inst_at(r["inst"], j)
        if part["gpu"] == g:
            return True
        j = part["shard"]
    return False
