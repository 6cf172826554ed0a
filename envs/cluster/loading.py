"""Start-up of instances and fetches to the host: sources, phases, the end of a load.

Units: seconds, bytes.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.bill import charge_load, touch_gpu
from stoker.envs.cluster.effects import FETCH_HOST, LOAD, effect
from stoker.envs.cluster.events import PHASE, push, quantize
from stoker.envs.cluster.host_tier import (
    copy_of,
    drop_host,
    hold_host,
    host_room,
)
from stoker.envs.cluster.instances import open_slot
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.lending import take_process
from stoker.envs.cluster.links import join
from stoker.envs.cluster.order import count_idle, enlist, slot_of
from stoker.envs.cluster.rules.wait_vs_cold import join_peers
from stoker.envs.cluster.sharing import make_evictable, occupy
from stoker.envs.cluster.slots import take_free
from stoker.envs.cluster.tables import (
    COLD,
    FETCHING,
    HOST,
    NONE,
    PEER,
    READY,
    STARTING,
    THERE,
    fn_at,
    inst_at,
    link_at,
    node_at,
)

RUNTIME, DISK, PCIE, WARMUP, ALIVE = 0, 1, 2, 3, 4
"""Phases of a start-up."""


@njit
def _choose_source(r, f, copy):
    """Where the weights come from: a peer GPU or the host copy if that is quickest, else disk."""
    source, seconds = COLD, copy["disk_s"]
    if copy["state"] == THERE:
        source, seconds = HOST, copy["host_s"]
    if copy["ready"] > 0 and copy["peer_s"] < seconds:
        source, seconds = PEER, copy["peer_s"]
    return source, seconds


@njit
def start_instance(r, f, g, t):
    """Begin the start-up of an instance of f on GPU g, whose memory has been made free."""
    fn = fn_at(r["fn"], f)
    gpu = touch_gpu(r, g, t)
    n = gpu["node"]
    process_s = take_process(r, f, n, t)
    copy = copy_of(r, n, f)
    i = take_free(r)
    inst = inst_at(r["inst"], i)
    inst["fn"], inst["node"], inst["gpu"], inst["state"] = f, n, g, STARTING
    join_peers(r, i)
    inst["source"], work = _choose_source(r, f, copy)
    inst["moves"] = occupy(r, f, g, t)
    gpu["loading"] += 1
    gpu["resident"] += 1
    fn["n"] += 1
    fn["loading"] += 1
    slot = slot_of(r, g, f)
    slot["n"] += 1
    if slot["n"] == 1:
        enlist(r, g, f)
    r["loads_now"] += 1
    if inst["source"] == HOST:
        r["loads_host"] += 1
        copy["busy"] += 1
    elif inst["source"] == PEER:
        r["loads_peer"] += 1
    else:
        r["loads_disk"] += 1
    if inst["moves"] < fn["weights"]:
        weights_s = work - fn["process_s"] - fn["warmup_s"]
        work -= weights_s * (1.0 - inst["moves"] / fn["weights"])
    work -= fn["process_s"] - process_s
    charge_load(r, n, f, work)
    if r["live"]:
        effect(r, LOAD, i, f, g, inst["source"], 0)
    else:
        inst["phase"] = RUNTIME
        push(r, quantize(r, t + process_s), PHASE, i, inst["created"] & 0x7FFFFFFF)
    return i


@njit
def next_phase(r, i, t):
    """Start the phase after the one that has ended; return whether the instance is alive now."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    inst["phase"] += 1
    disk, pcie = inst["node"], r["nodes"] + inst["gpu"]
    inst["compression"] = 1.0
    if inst["phase"] == DISK:
        rate = min(fn["load_rate"], link_at(r["link"], disk)["rate"])
        if inst["source"] == COLD and inst["moves"] > 0 and rate < math.inf:
            through = NONE
            inst["compression"] = fn["compression"]
            if inst["state"] == STARTING and node_at(r["node"], inst["node"])["pipelined"]:
                inst["phase"] = PCIE  # in one go
                through = pcie
            join(r, disk, through, i, inst["moves"] / fn["compression"], fn["load_rate"], t)
            return False
        inst["phase"] += 1
    if inst["phase"] == PCIE and inst["state"] == STARTING:
        last = r["nodes"] + r["gpus"] + inst["node"] if inst["source"] == PEER else pcie
        if inst["moves"] > 0 and link_at(r["link"], last)["rate"] < math.inf:
            join(r, last, NONE, i, float(inst["moves"]), math.inf, t)
            return False
        inst["phase"] += 1
    if inst["phase"] == WARMUP and inst["state"] == STARTING and fn["warmup_s"] > 0.0:
        at = quantize(r, t + fn["warmup_s"])
        push(r, at, PHASE, i, inst["created"] & 0x7FFFFFFF)
        return False
    return True


@njit
def make_ready(r, i, t):
    """The start-up of instance i has ended: it can take work."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    gpu = touch_gpu(r, inst["gpu"], t)
    gpu["loading"] -= 1
    make_evictable(r, inst["fn"], inst["gpu"], 1)
    copy = copy_of(r, inst["node"], inst["fn"])
    copy["ready"] += 1
    fn["loading"] -= 1
    fn["idle"] += 1
    count_idle(r, inst["gpu"], inst["fn"], 1)
    r["loads_now"] -= 1
    if inst["source"] == HOST:
        copy["busy"] -= 1
        if copy["busy"] == 0 and copy["state"] == THERE:
            drop_host(r, inst["node"], inst["fn"], t, False)
    inst["state"], inst["ready_t"], inst["idle_since"] = READY, t, t
    open_slot(r, i)


@njit
def _roomiest_host(r):
    """The node with the most free host memory."""
    best = 0
    most = -1
    for n in range(r["nodes"]):
        node = node_at(r["node"], n)
        if node["host_cap"] - node["host_used"] > most:
            best, most = n, node["host_cap"] - node["host_used"]
    return best


@njit
def fetch_host(r, f, t):
    """Begin to bring a host copy of f (prewarm to the host tier); return whether it could."""
    fn = fn_at(r["fn"], f)
    if fn["held_host"] > fn["held_parked"] or fn["n"] > 0 or fn["weights"] == 0 or r["free_n"] == 0:
        return False
    n = _roomiest_host(r)
    if not host_room(r, n, fn["weights"], t):
        return False
    hold_host(r, n, f, t)
    i = take_free(r)
    inst = inst_at(r["inst"], i)
    inst["fn"], inst["node"], inst["gpu"], inst["moves"] = f, n, NONE, fn["weights"]
    inst["state"], inst["source"] = FETCHING, COLD
    if r["live"]:
        effect(r, FETCH_HOST, i, f, NONE, n, 0)
    else:
        inst["phase"] = RUNTIME
        push(r, t, PHASE, i, inst["created"] & 0x7FFFFFFF)
    return True
