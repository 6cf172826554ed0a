"""Instances: start-up, becoming idle or busy, leaving; the lists they stand in.

Units: seconds, bytes.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.disk_tier import give_up_disk
from stoker.envs.cluster.effects import DROP, effect
from stoker.envs.cluster.events import EXPIRE, PHASE, push, quantize
from stoker.envs.cluster.host_tier import (
    arrive_host,
    copy_of,
    drop_host,
    hold_host,
    host_room,
    stop_reading_host,
)
from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.layers import park
from stoker.envs.cluster.llm_lanes import give_lane
from stoker.envs.cluster.placed import host_open, loosen, must_leave, parted, regrip
from stoker.envs.cluster.power import part
from stoker.envs.cluster.rules.wait_vs_cold import leave_peers
from stoker.envs.cluster.slots import give_free, take_free
from stoker.envs.cluster.spans import (
    count_busy,
    leave_gpus,
    no_more_idle,
    stop_loading,
)
from stoker.envs.cluster.tables import (
    ABSENT,
    FETCHING,
    HOST,
    NONE,
    STARTING,
    fn_at,
    gpu_at,
    inst_at,
    link_at,
    node_at,
)

MRU, LRU, NEWEST, ARBITRARY = 0, 1, 2, 3
NOTHING_LEFT = 99
"""A phase after those of any start-up (loading.py)."""


@njit
def _clone_key(r, inst):
    return inst["last_start"] if r["clone"] <= LRU else float(inst["created"])


@hot
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


@hot
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


@hot
def choose_open(r, f):
    """The listed instance that rule clone_choice reuses, or NONE."""
    fn = fn_at(r["fn"], f)
    return fn["open_tail"] if r["clone"] == MRU or r["clone"] == NEWEST else fn["open_head"]


@hot
def make_busy(r, i, t):
    """Instance i takes its first batch."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    if r["placing"] and inst["pinned"]:
        loosen(r, i)
    count_busy(r, i, t, 1)
    fn["idle"] -= 1
    fn["busy"] += 1


@hot
def make_idle(r, i, t):
    """Instance i has finished its last batch."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    count_busy(r, i, t, -1)
    fn["idle"] += 1
    fn["busy"] -= 1
    if r["placing"] and inst["pinned"]:
        regrip(r, i)
    inst["idle_since"] = t


@hot
def expiry_of(r, i):
    """When the standing keep-alive of an idle instance ends."""
    inst = inst_at(r["inst"], i)
    if r["placing"]:
        if must_leave(r, inst):
            return -math.inf
        if inst["pinned"]:
            return math.inf
    fn = fn_at(r["fn"], inst["fn"])
    anchor = inst["last_start"] if r["ttl_start"] else inst["idle_since"]
    return max(quantize(r, anchor + fn["keep_alive_s"]), inst["keep_until"])


@hot
def timed(r, i):
    """Whether time alone may end idle instance i: under lazy expiry only what has to leave."""
    return not r["ttl_lazy"] or (r["placing"] and must_leave(r, inst_at(r["inst"], i)))


@hot
def set_expiry(r, i):
    """Make sure that a timer will look at idle instance i when its keep-alive ends."""
    if not timed(r, i):
        return
    inst = inst_at(r["inst"], i)
    at = expiry_of(r, i)
    if at < inst["timer"]:
        inst["timer"] = at
        push(r, max(at, r["now"]), EXPIRE, i, inst["created"] & 0x7FFFFFFF)


@hot
def _vacate(r, i, t):
    """Free the device memory of instance i and forget its use."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    if r["placing"]:
        fn["leaving"] -= gpu_at(r["gpu"], inst["gpu"])["closed"]
        parted(r, inst["fn"], inst["gpu"])
    leave_peers(r, i)
    fn["n"] -= 1
    leave_gpus(r, i, t)
    if fn["n"] == 0:
        fn["freq"] = 0.0
    elif r["freq_instance"]:
        fn["freq"] -= inst["freq"]


@hot
def _leave_idle(r, i):
    """Take an idle instance out of the counts and the list of those that can take work."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    close_slot(r, i)
    if inst["lane"] != NONE:
        give_lane(r, i)
    copy_of(r, inst["node"], inst["fn"])["ready"] -= 1
    fn["idle"] -= 1
    no_more_idle(r, i)


@njit
def lose_instance(r, i, t):
    """Instance i, which starts up or has no work in flight and is not pinned, is lost."""
    inst = inst_at(r["inst"], i)
    fn = fn_at(r["fn"], inst["fn"])
    n = inst["node"]
    give_up_disk(r, i, t)
    if inst["state"] == FETCHING:
        drop_host(r, n, inst["fn"], t, False)
    elif inst["state"] == STARTING:
        stop_loading(r, i, t)
        fn["loading"] -= 1
        r["loads_now"] -= 1
        if inst["source"] == HOST:
            stop_reading_host(r, n, inst["fn"], t)
        _vacate(r, i, t)
    else:
        _leave_idle(r, i)
        _vacate(r, i, t)
    give_free(r, i)


@njit
def unload(r, i, t):
    """Take an idle instance off its device; its weights go to the host if that is ordered."""
    inst = inst_at(r["inst"], i)
    f, n, g = inst["fn"], inst["node"], inst["gpu"]
    fn = fn_at(r["fn"], f)
    _leave_idle(r, i)
    uses = fn["freq"]
    _vacate(r, i, t)
    to_host = 0
    copy_s = 0.0
    copy = copy_of(r, n, f)
    if fn["n"] == 0 and copy["state"] == ABSENT:
        wanted = fn["host_keep_alive_s"] > 0.0 and fn["weights"] > 0
        if r["placing"] and not host_open(r, n, f):
            wanted = False
        if wanted and host_room(r, n, fn["weights"], t):
            copy["uses"] += uses
            hold_host(r, n, f, t)
            copy_s = _demotion_s(r, n, f, g)
            if copy_s == 0.0:
                arrive_host(r, n, f, t)
            to_host = 1
        else:
            copy["uses"] = 0.0
    if r["live"]:
        effect(r, DROP, i, f, g, to_host, 0)
    give_free(r, i)
    if copy_s > 0.0:
        _copy_down(r, n, f, t + copy_s)
    if r["placing"]:
        part(r, n, t)


@njit
def _demotion_s(r, n, f, g):
    """How long a host copy is on its way down from GPU g; on a real backend orders take turns."""
    if r["live"] or not node_at(r["node"], n)["demotion"]:
        return 0.0
    fn = fn_at(r["fn"], f)
    return fn["weights"] / fn["gpus"] / link_at(r["link"], r["nodes"] + g)["rate"]


@njit
def _copy_down(r, n, f, at):
    """The host copy of f, whose room on node n is booked, will be complete at a time."""
    i = take_free(r)
    inst = inst_at(r["inst"], i)
    inst["fn"], inst["node"], inst["gpu"], inst["state"] = f, n, NONE, FETCHING
    inst["phase"] = NOTHING_LEFT
    push(r, quantize(r, at), PHASE, i, inst["created"] & 0x7FFFFFFF)


@njit
def remove_instance(r, i, t):
    """An idle instance goes: weights and process stay in host memory if that is ordered."""
    inst = inst_at(r["inst"], i)
    f, n = inst["fn"], inst["node"]
    unload(r, i, t)
    if r["images"] > 0:
        park(r, n, f, t)
