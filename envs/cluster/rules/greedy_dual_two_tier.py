"""Greedy-dual on the device where host memory lies below it.

Rule: as greedy_dual, priority = clock + frequency x cost / size, but the cost is what losing the
device instance would cost next time: the start-up from where the weights will lie. That is host
memory if a copy lies there or is ordered to be kept (host_keep_alive_s > 0, and it fits some
node's host memory), else a disk, else the store behind the network. It is read at every use.

Source: after FaasCache (ASPLOS 2021, section 4). Where load time is proportional to size, cost over
size is the same everywhere and greedy-dual is LRU at best; start-ups from host memory and from disk
make it differ again (our inference, not a published result). Torpor (ATC 2025; recalled) weighs
models by how heavy swapping them in is, likewise; its rule is not reproduced.

Units: ms over MiB, as greedy_dual.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import fn_at

MS = 1000.0


@njit
def next_start_s(fn):
    """Start-up time of a function that has just lost its last instance, on its fastest node."""
    if fn["hosts"] > 0 or (fn["host_keep_alive_s"] > 0.0 and fn["hostable"]):
        return fn["load_host_s"]
    return fn["load_disk_s"] if fn["disks"] > 0 else fn["load_remote_s"]


@njit
def two_tier_priority(r, f):
    """Priority of function f after a use."""
    fn = fn_at(r["fn"], f)
    return r["clock"] + fn["freq"] * MS * next_start_s(fn) / fn["cost_size"]
