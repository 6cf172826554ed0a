"""Start-up of an instance over several GPUs: its shards, and one copy over each GPU's PCIe link.

The weights cross the disk link once. Then each GPU gets its share over its own link, all at once
and each link shared with whatever else is on it; the copy ends with the last of them. In a
pipelined load the slowest of the links decides, as ever (links.py).  Units: seconds, bytes.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.links import join
from stoker.envs.cluster.slots import take_free
from stoker.envs.cluster.spans import enter_gpu
from stoker.envs.cluster.tables import NONE, SHARD, fn_at, gpu_at, inst_at


@njit
def add_shards(r, i, t):
    """Hang a slot on instance i for every GPU chosen beside its own (span_placement.py)."""
    inst = inst_at(r["inst"], i)
    last, g = i, inst["gpu"]
    for _ in range(fn_at(r["fn"], inst["fn"])["gpus"] - 1):
        g = gpu_at(r["gpu"], g)["pick"]
        j = take_free(r)
        part = inst_at(r["inst"], j)
        part["fn"], part["node"], part["gpu"], part["state"] = inst["fn"], inst["node"], g, SHARD
        part["owner"] = i
        enter_gpu(r, inst["fn"], g, t)
        inst_at(r["inst"], last)["shard"] = j
        last = j


@njit
def copy_shares(r, i, t):
    """Begin to copy the shares of instance i, over the PCIe link of each of its GPUs."""
    inst = inst_at(r["inst"], i)
    gpus = fn_at(r["fn"], inst["fn"])["gpus"]
    inst["legs"] = gpus
    j = i
    while j != NONE:
        part = inst_at(r["inst"], j)
        join(r, r["nodes"] + part["gpu"], NONE, j, inst["moves"] / gpus, math.inf, t)
        j = part["shard"]


@njit
def leg_over(r, i):
    """A phase has ended at slot i: return its instance, or NONE while other GPUs still copy."""
    owner = inst_at(r["inst"], i)["owner"]
    inst = inst_at(r["inst"], owner)
    if inst["legs"] > 1:
        inst["legs"] -= 1
        return NONE
    inst["legs"] = 0
    return owner
