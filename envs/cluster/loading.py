"""Start-up of instances and fetches to the host: sources, phases, the end of a load.

Units: seconds, bytes.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.bill import charge_load
from stoker.envs.cluster.copy_order import list_copy
from stoker.envs.cluster.disk_tier import (
    READS,
    WRITES,
    in_one_go,
    join_network,
    land_on_disk,
    leave_disk,
    read_disk,
    write_disk,
)
from stoker.envs.cluster.effects import FETCH_HOST, LOAD, effect
from stoker.envs.cluster.events import PHASE, push, quantize
from stoker.envs.cluster.host_tier import (
    copy_of,
    drop_host,
    hold_host,
    host_room,
    read_host,
)
from stoker.envs.cluster.instances import open_slot
from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.lending import take_process
from stoker.envs.cluster.links import join
from stoker.envs.cluster.noise import load_noise
from stoker.envs.cluster.placed import (
    copy_held,
    entered,
    host_open,
    names_node,
    regrip,
    standing,
)
from stoker.envs.cluster.rules.wait_vs_cold import join_peers
from stoker.envs.cluster.slots import take_free
from stoker.envs.cluster.span_loads import add_shards, copy_shares
from stoker.envs.cluster.spans import end_loading, enter_gpu
from stoker.envs.cluster.tables import (
    ABSENT,
    COLD,
    FETCHING,
    HOST,
    NONE,
    PEER,
    READY,
    REMOTE,
    STARTING,
    THERE,
    fn_at,
    gpu_at,
    inst_at,
    link_at,
    node_at,
)

RUNTIME, NETWORK, DISK, PCIE, WARMUP, ALIVE = 0, 1, 2, 3, 4, 5
"""Phases of a start-up."""


@hot
def _choose_source(copy, moves):
    """Where the weights come from: a peer GPU or the host copy if that is quickest, else disk.

    What is on none of them comes over the network.
    """
    source, seconds = COLD, copy["disk_s"]
    if copy["disk"] != THERE and moves > 0:
        source, seconds = REMOTE, copy["remote_s"]
    if copy["state"] == THERE:
        source, seconds = HOST, copy["host_s"]
    if copy["ready"] > 0 and copy["peer_s"] < seconds:
        source, seconds = PEER, copy["peer_s"]
    return source, seconds


@hot
def _book_source(r, i):
    """Count a load by its source and hold what it reads; False if the disk will not keep it."""
    inst = inst_at(r["inst"], i)
    if inst["source"] == HOST:
        r["loads_host"] += 1
        read_host(r, inst["node"], inst["fn"])
    elif inst["source"] == PEER:
        r["loads_peer"] += 1
    elif inst["source"] == REMOTE:
        r["loads_remote"] += 1
        return write_disk(r, i)
    else:
        r["loads_disk"] += 1
        read_disk(r, i)
    return True


@njit
def start_instance(r, f, g, t):
    """Begin the start-up of an instance of f on GPU g, whose memory has been made free."""
    fn = fn_at(r["fn"], f)
    n = gpu_at(r["gpu"], g)["node"]
    process_s = take_process(r, f, n, t)
    copy = copy_of(r, n, f)
    i = take_free(r)
    inst = inst_at(r["inst"], i)
    inst["fn"], inst["node"], inst["gpu"], inst["state"] = f, n, g, STARTING
    join_peers(r, i)
    inst["moves"] = enter_gpu(r, f, g, t)
    inst["source"], work = _choose_source(copy, inst["moves"])
    if fn["gpus"] > 1:
        add_shards(r, i, t)
    fn["n"] += 1
    fn["loading"] += 1
    if r["placing"]:
        entered(r, i)
    r["loads_now"] += 1
    if not _book_source(r, i):
        work = copy["stream_s"]
    new_s = fn["process_s"]
    if inst["moves"] < fn["weights"]:
        weights_s = work - new_s - fn["warmup_s"]
        if inst["disk"] == WRITES:  # the whole file comes; later legs are shorter
            weights_s = 0.0 if in_one_go(r, i) else copy["disk_s"] - new_s - fn["warmup_s"]
        work -= weights_s * (1.0 - inst["moves"] / fn["weights"])
    work -= new_s - process_s
    if r["load_noise"] != 0:
        inst["noise"] = load_noise(r, f)
        work *= inst["noise"]
        process_s *= inst["noise"]
    charge_load(r, n, f, work)
    if r["live"]:
        effect(r, LOAD, i, f, g, inst["source"], 0)
    else:
        inst["phase"] = RUNTIME
        push(r, quantize(r, t + process_s), PHASE, i, inst["created"] & 0x7FFFFFFF)
    return i


@njit
def _brought(r, i, t):
    """The weights of instance i have come over the network and lie on the disk."""
    if in_one_go(r, i):
        leave_disk(r, i, t)
    else:
        land_on_disk(r, i)


@njit
def _start_remote(r, i, t):
    """Begin the leg over the network; return whether it takes time."""
    if join_network(r, i, t):
        if in_one_go(r, i):
            inst_at(r["inst"], i)["phase"] = PCIE
        return True
    if inst_at(r["inst"], i)["disk"] == WRITES:
        _brought(r, i, t)
    return False


@hot
def next_phase(r, i, t):
    """Start the phase after the one that has ended; return whether the instance is alive now."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    if inst["disk"] == WRITES and inst["phase"] > RUNTIME:
        _brought(r, i, t)
    inst["phase"] += 1
    disk, pcie = inst["node"], r["nodes"] + inst["gpu"]
    inst["compression"] = 1.0
    if inst["phase"] == NETWORK:
        if inst["source"] == REMOTE and _start_remote(r, i, t):
            return False
        inst["phase"] += 1
    if inst["phase"] == DISK:
        rate = min(fn["load_rate"], link_at(r["link"], disk)["rate"])
        reads = inst["source"] == COLD or inst["disk"] == READS
        if reads and inst["moves"] > 0 and rate < math.inf:
            through = NONE
            inst["compression"] = fn["compression"]
            if inst["source"] == COLD and in_one_go(r, i):
                inst["phase"] = PCIE  # in one go
                through = pcie
            join(r, disk, through, i, inst["moves"] / fn["compression"], fn["load_rate"], t)
            return False
        inst["phase"] += 1
    if inst["phase"] == PCIE and inst["state"] == STARTING:
        last = r["nodes"] + r["gpus"] + inst["node"] if inst["source"] == PEER else pcie
        if inst["moves"] > 0 and link_at(r["link"], last)["rate"] < math.inf:
            if inst["shard"] == NONE:
                join(r, last, NONE, i, float(inst["moves"]), math.inf, t)
            else:
                copy_shares(r, i, t)
            return False
        inst["phase"] += 1
    if inst["phase"] == WARMUP and inst["state"] == STARTING and fn["warmup_s"] > 0.0:
        at = quantize(r, t + fn["warmup_s"] * inst["noise"])
        push(r, at, PHASE, i, inst["created"] & 0x7FFFFFFF)
        return False
    return True


@hot
def make_ready(r, i, t):
    """The start-up of instance i has ended: it can take work."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    end_loading(r, i, t)
    copy = copy_of(r, inst["node"], inst["fn"])
    copy["ready"] += 1
    fn["loading"] -= 1
    fn["idle"] += 1
    r["loads_now"] -= 1
    if r["placing"] and inst["pinned"]:
        regrip(r, i)
    if inst["source"] == HOST:
        copy["busy"] -= 1
        if copy["busy"] == 0 and copy["state"] == THERE:
            if r["placing"] and copy_held(r, inst["node"], inst["fn"]):
                list_copy(r, inst["node"], inst["fn"])
            else:
                drop_host(r, inst["node"], inst["fn"], t, False)
    inst["state"], inst["ready_t"], inst["idle_since"] = READY, t, t
    open_slot(r, i)


@njit
def _roomiest_host(r, f, k):
    """The node with the most free host memory that may take a copy of f.

    k: see `fetch_copy`.
    """
    best = NONE
    most = -1
    for n in range(r["nodes"]):
        node = node_at(r["node"], n)
        if node["host_cap"] - node["host_used"] > most:
            if r["placing"] and not host_open(r, n, f):
                continue
            if k != NONE and (copy_of(r, n, f)["state"] != ABSENT or not names_node(r, k, n)):
                continue
            best, most = n, node["host_cap"] - node["host_used"]
    return best


@njit
def fetch_copy(r, f, k, t):
    """Begin to bring a host copy of f to the node with most room; return whether it could.

    k: the target that asks for it, which names the nodes; NONE = any node.
    """
    fn = fn_at(r["fn"], f)
    if fn["weights"] == 0 or r["free_n"] == 0:
        return False
    n = _roomiest_host(r, f, k)
    if n == NONE or not host_room(r, n, fn["weights"], t):
        return False
    hold_host(r, n, f, t)
    i = take_free(r)
    inst = inst_at(r["inst"], i)
    inst["fn"], inst["node"], inst["gpu"], inst["moves"] = f, n, NONE, fn["weights"]
    inst["state"] = FETCHING
    if r["load_noise"] != 0:
        inst["noise"] = load_noise(r, f)
    if copy_of(r, n, f)["disk"] == THERE:
        inst["source"] = COLD
        read_disk(r, i)
    else:
        inst["source"] = REMOTE
        write_disk(r, i)
    if r["live"]:
        effect(r, FETCH_HOST, i, f, NONE, n, 0)
    else:
        inst["phase"] = RUNTIME
        push(r, t, PHASE, i, inst["created"] & 0x7FFFFFFF)
    return True


@njit
def fetch_host(r, f, t):
    """Carry out the order to fetch a host copy of f, unless it has one or an instance."""
    fn = fn_at(r["fn"], f)
    if fn["held_host"] == fn["held_parked"] and standing(fn) == 0:
        fetch_copy(r, f, NONE, t)
