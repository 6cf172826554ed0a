"""Instances: start-up, becoming idle or busy, leaving; the lists they stand in.

Units: seconds, bytes.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.bill import charge_load, touch_gpu
from stoker.envs.cluster.effects import DROP, FETCH_HOST, LOAD, effect
from stoker.envs.cluster.events import EXPIRE, PHASE, push, quantize
from stoker.envs.cluster.host_tier import (
    arrive_host,
    copy_of,
    drop_host,
    hold_host,
    host_room,
    review_host,
)
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.links import join
from stoker.envs.cluster.order import count_idle, delist, enlist, slot_of
from stoker.envs.cluster.rules.wait_vs_cold import join_peers, leave_peers
from stoker.envs.cluster.sharing import make_evictable, make_needed, occupy, vacate
from stoker.envs.cluster.tables import (
    ABSENT,
    COLD,
    FETCHING,
    FREE,
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

MRU, LRU, NEWEST, ARBITRARY = 0, 1, 2, 3
RUNTIME, DISK, PCIE, WARMUP, ALIVE = 0, 1, 2, 3, 4
"""Phases of a start-up."""


@njit
def _clone_key(r, inst):
    return inst["last_start"] if r["clone"] <= LRU else float(inst["created"])


@njit
def open_slot(r, i):
    """List instance i among those of its function that can take a batch, in clone order."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    key = _clone_key(r, inst)
    before = fn["open_tail"]
    while before != NONE and _clone_key(r, inst_at(r["inst"], before)) > key:
        before = inst_at(r["inst"], before)["prev"]
    after = fn["open_head"] if before == NONE else inst_at(r["inst"], before)["next"]
    inst["prev"], inst["next"], inst["open"] = before, after, 1
    if before == NONE:
        fn["open_head"] = i
    else:
        inst_at(r["inst"], before)["next"] = i
    if after == NONE:
        fn["open_tail"] = i
    else:
        inst_at(r["inst"], after)["prev"] = i


@njit
def close_slot(r, i):
    """Take instance i off that list."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    inst["open"] = 0
    if inst["prev"] == NONE:
        fn["open_head"] = inst["next"]
    else:
        inst_at(r["inst"], inst["prev"])["next"] = inst["next"]
    if inst["next"] == NONE:
        fn["open_tail"] = inst["prev"]
    else:
        inst_at(r["inst"], inst["next"])["prev"] = inst["prev"]


@njit
def choose_open(r, f):
    """The listed instance that rule clone_choice reuses, or NONE."""
    fn = fn_at(r["fn"], f)
    return fn["open_tail"] if r["clone"] == MRU or r["clone"] == NEWEST else fn["open_head"]


@njit
def take_free(r):
    """Take a free instance slot (the caller has checked that there is one)."""
    i = r["free_head"]
    inst = inst_at(r["inst"], i)
    r["free_head"] = inst["next"]
    r["free_n"] -= 1
    r["created"] += 1
    inst["created"] = r["created"]
    inst["inflight"], inst["open"], inst["queued"], inst["bound"] = 0, 0, 0, NONE
    inst["link"], inst["through"], inst["prev"], inst["next"] = NONE, NONE, NONE, NONE
    inst["freq"] = 0.0
    inst["timer"], inst["keep_until"] = math.inf, 0.0
    inst["last_start"], inst["idle_since"] = r["now"], r["now"]
    return i


@njit
def give_free(r, i):
    """Return a slot."""
    inst = inst_at(r["inst"], i)
    inst["state"], inst["next"] = FREE, r["free_head"]
    inst["created"] = NONE
    r["free_head"] = i
    r["free_n"] += 1


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
    runtime = fn["runtime_s"]
    if inst["moves"] < fn["weights"]:
        weights_s = work - runtime - fn["warmup_s"]
        work -= weights_s * (1.0 - inst["moves"] / fn["weights"])
    if copy["ready"] > 0 and fn["fork_s"] < runtime:
        work -= runtime - fn["fork_s"]
        runtime = fn["fork_s"]
    charge_load(r, n, f, work)
    if r["live"]:
        effect(r, LOAD, i, f, g, inst["source"], 0)
    else:
        inst["phase"] = RUNTIME
        push(r, quantize(r, t + runtime), PHASE, i, inst["created"] & 0x7FFFFFFF)
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
def make_busy(r, i, t):
    """Instance i takes its first batch."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    gpu = touch_gpu(r, inst["gpu"], t)
    gpu["busy"] += 1
    make_needed(r, inst["fn"], inst["gpu"])
    fn["idle"] -= 1
    fn["busy"] += 1
    count_idle(r, inst["gpu"], inst["fn"], -1)


@njit
def make_idle(r, i, t):
    """Instance i has finished its last batch."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    gpu = touch_gpu(r, inst["gpu"], t)
    gpu["busy"] -= 1
    make_evictable(r, inst["fn"], inst["gpu"], 0)
    fn["idle"] += 1
    fn["busy"] -= 1
    count_idle(r, inst["gpu"], inst["fn"], 1)
    inst["idle_since"] = t


@njit
def expiry_of(r, i):
    """When the standing keep-alive of an idle instance ends."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    anchor = inst["last_start"] if r["ttl_start"] else inst["idle_since"]
    return max(quantize(r, anchor + fn["keep_alive_s"]), inst["keep_until"])


@njit
def set_expiry(r, i):
    """Make sure that a timer will look at idle instance i when its keep-alive ends."""
    if r["ttl_lazy"]:
        return
    inst = inst_at(r["inst"], i)
    at = expiry_of(r, i)
    if at < inst["timer"]:
        inst["timer"] = at
        push(r, max(at, r["now"]), EXPIRE, i, inst["created"] & 0x7FFFFFFF)


@njit
def _vacate(r, i, t):
    """Free the device memory of instance i and forget its use."""
    inst = inst_at(r["inst"], i)
    f, g = inst["fn"], inst["gpu"]
    fn = fn_at(r["fn"], f)
    touch_gpu(r, g, t)["resident"] -= 1
    leave_peers(r, i)
    fn["n"] -= 1
    slot = slot_of(r, g, f)
    slot["n"] -= 1
    if slot["n"] == 0:
        delist(r, g, f)
    vacate(r, f, g, inst["state"] == READY, t)
    if fn["n"] == 0:
        fn["freq"] = 0.0
    elif r["freq_instance"]:
        fn["freq"] -= inst["freq"]


@njit
def _leave_idle(r, i):
    """Take an idle instance out of the counts and the list of those that can take work."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    close_slot(r, i)
    copy_of(r, inst["node"], inst["fn"])["ready"] -= 1
    fn["idle"] -= 1
    count_idle(r, inst["gpu"], inst["fn"], -1)


@njit
def lose_instance(r, i, t):
    """A real backend has lost instance i, which starts up or has no work in flight."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    n = inst["node"]
    if inst["state"] == FETCHING:
        drop_host(r, n, inst["fn"], t, False)
    elif inst["state"] == STARTING:
        touch_gpu(r, inst["gpu"], t)["loading"] -= 1
        fn["loading"] -= 1
        r["loads_now"] -= 1
        if inst["source"] == HOST:
            copy_of(r, n, inst["fn"])["busy"] -= 1
            review_host(r, n, inst["fn"], t)
        _vacate(r, i, t)
    else:
        _leave_idle(r, i)
        _vacate(r, i, t)
    give_free(r, i)


@njit
def remove_instance(r, i, t):
    """Take an idle instance off its device; its weights go to the host if that is ordered."""
    inst = inst_at(r["inst"], i)
    f, n, g = inst["fn"], inst["node"], inst["gpu"]
    fn = fn_at(r["fn"], f)
    _leave_idle(r, i)
    _vacate(r, i, t)
    to_host = 0
    copied = copy_of(r, n, f)["state"] != ABSENT
    wanted = fn["n"] == 0 and not copied and fn["host_keep_alive_s"] > 0.0
    if wanted and fn["weights"] > 0 and host_room(r, n, fn["weights"], t):
        hold_host(r, n, f, t)
        arrive_host(r, n, f, t)
        to_host = 1
    if r["live"]:
        effect(r, DROP, i, f, g, to_host, 0)
    give_free(r, i)


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
    if fn["held_host"] > 0 or fn["n"] > 0 or fn["weights"] == 0 or r["free_n"] == 0:
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
