"""Making room on a GPU: which idle instances leave, under the rule in force.

Heap rules take the function of least priority (order.py); scanning rules compare the index of every
resident function at its present age. A busy instance is never touched.  Units: bytes, seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.bill import move_price
from stoker.envs.cluster.features import UNIT_EDGE, bin_of
from stoker.envs.cluster.instances import close_slot, open_slot, remove_instance
from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.order import (
    FIRST_SCAN,
    listed_fn,
    lower,
    place,
    place_of,
    sift_down,
    sift_up,
    slot_of,
)
from stoker.envs.cluster.prefetch import bring_score
from stoker.envs.cluster.rules.freq import freq_priority
from stoker.envs.cluster.rules.greedy_dual import greedy_dual_priority
from stoker.envs.cluster.rules.greedy_dual_two_tier import two_tier_priority
from stoker.envs.cluster.rules.hazard import hazard_score
from stoker.envs.cluster.rules.landlord import landlord_priority
from stoker.envs.cluster.rules.lfu import lfu_priority
from stoker.envs.cluster.rules.lru import lru_priority
from stoker.envs.cluster.rules.score import decision_score
from stoker.envs.cluster.rules.size import size_priority
from stoker.envs.cluster.spans import stands_on
from stoker.envs.cluster.tables import AGES, NONE, fn_at, gpu_at, inst_at

AHEAD = 3
"""Places of the order by which a scan asks ahead."""
LRU, GREEDY_DUAL, FREQ, SIZE, LFU, LANDLORD, TWO_TIER, SCORE, HAZARD = range(9)


@hot
def priority(r, f, t):
    """Priority of f under a heap rule, now that it has been used at t."""
    if r["eviction"] == GREEDY_DUAL:
        return greedy_dual_priority(r, f)
    if r["eviction"] == FREQ:
        return freq_priority(r, f)
    if r["eviction"] == SIZE:
        return size_priority(r, f)
    if r["eviction"] == LFU:
        return lfu_priority(r, f)
    if r["eviction"] == LANDLORD:
        return landlord_priority(r, f)
    if r["eviction"] == TWO_TIER:
        return two_tier_priority(r, f)
    return lru_priority(t)


@njit
def index_at(r, f, k):
    """Index of f under a scanning rule at an idle age in bin k."""
    return hazard_score(r, f, k) if r["eviction"] == HAZARD else decision_score(r, f)


@njit
def _look_ahead(r, g, k, t):
    """Ask for what `_score` will read of the function at place k."""
    if k < gpu_at(r["gpu"], g)["listed"]:
        place = place_of(r, g, k)
        if t >= place["until"]:
            bring_score(r, place["fn"])


@njit
def _score(r, place, t):
    """Index at t of the function at a place; read again when its age leaves the bin."""
    if t >= place["until"]:
        since = fn_at(r["fn"], place["fn"])["last_idle"]
        k = bin_of(r["first_bin"], t - since)
        place["score"] = index_at(r, place["fn"], k)
        open_end = k == AGES - 1
        place["until"] = math.inf if open_end else since + r["first_bin"] * UNIT_EDGE[k + 1]
    return place["score"]


@hot
def access(r, i, t):
    """Book a use of instance i at t: frequency, recency, priority."""
    inst = inst_at(r["inst"], i)
    f = inst["fn"]
    fn = fn_at(r["fn"], f)
    inst["last_start"] = t
    if inst["open"]:  # it still has slots: its place in clone order has changed
        close_slot(r, i)
        open_slot(r, i)
    inst["freq"] += 1.0
    fn["freq"] += 1.0
    renew(r, f, t)


@hot
def renew(r, f, t):
    """Give f its priority as of t: it has been used, or loaded ahead of use."""
    if r["eviction"] < FIRST_SCAN:
        fn = fn_at(r["fn"], f)
        before = fn["prio"]
        fn["prio"] = priority(r, f, t)
        if fn["prio"] < before:
            lower(r, f)


@njit
def idle_on(r, f, g):
    """The least recently listed idle instance of f on GPU g, or of those that it spans."""
    i = fn_at(r["fn"], f)["open_head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        if inst["inflight"] == 0 and not inst["pinned"] and stands_on(r, i, g):
            return i
        i = inst["next"]
    return NONE


@njit
def _evict_heap(r, g, target, t):
    """Evict by ascending priority until `target` bytes have gone or nothing idle is left."""
    gpu = gpu_at(r["gpu"], g)
    before = gpu["used"]
    n = gpu["listed"]
    aside = 0
    while before - gpu["used"] < target and n > 0:
        f = listed_fn(r, g, 0)
        fn = fn_at(r["fn"], f)
        slot = slot_of(r, g, f)
        if slot["key"] < fn["prio"]:
            slot["key"] = fn["prio"]
            sift_down(r, g, 0, n)
        elif slot["idle"] == 0:
            n -= 1
            aside += 1
            other = listed_fn(r, g, n)
            place(r, g, n, f)
            place(r, g, 0, other)
            if n > 0:
                sift_down(r, g, 0, n)
        else:
            prio = fn["prio"]
            r["clock"] = prio if r["clock_assign"] else max(r["clock"], prio)
            r["evictions"] += 1
            if slot["n"] == 1 and aside > 0:
                # f leaves the list: close the gap below the functions set aside
                n -= 1
                place(r, g, 0, listed_fn(r, g, n))
                if n > 0:
                    sift_down(r, g, 0, n)
                last = listed_fn(r, g, n + aside)
                place(r, g, n, last)
                place(r, g, n + aside, f)
                remove_instance(r, idle_on(r, f, g), t)
            else:
                remove_instance(r, idle_on(r, f, g), t)
                n = gpu["listed"] - aside
    for k in range(n, n + aside):
        sift_up(r, g, k)


@njit
def _stays(r, g, f, t, limit):
    """Whether the idle instance of f on GPU g is too young to leave for a load ahead of demand."""
    if r["residency_s"] == 0.0 or limit == math.inf:
        return False
    i = idle_on(r, f, g)
    return i != NONE and t < inst_at(r["inst"], i)["ready_t"] + r["residency_s"]


@njit
def _scan(r, g, t, limit):
    """The idle function of least index below `limit` on GPU g, or NONE, and its index.

    Without a limit even an infinite index can go, last.
    """
    best = NONE
    least = limit
    for k in range(gpu_at(r["gpu"], g)["listed"]):
        _look_ahead(r, g, k + AHEAD, t)
        place = place_of(r, g, k)
        s = _score(r, place, t)
        if s < least and not _stays(r, g, place["fn"], t, limit):
            least = s
            best = place["fn"]
    if best == NONE and limit == math.inf:
        for k in range(gpu_at(r["gpu"], g)["listed"]):
            f = listed_fn(r, g, k)
            if slot_of(r, g, f)["idle"] > 0:
                return f, math.inf
    return best, least


@njit
def index_is_below(r, place, t, limit):
    """Whether the function at a place of the order has an index below `limit`."""
    return _score(r, place, t) < limit


@njit
def evictable_below(r, g, t, limit):
    """Idle bytes on GPU g, not shared, of functions whose index is below `limit`."""
    total = 0
    for k in range(gpu_at(r["gpu"], g)["listed"]):
        _look_ahead(r, g, k + AHEAD, t)
        place = place_of(r, g, k)
        if index_is_below(r, place, t, limit) and not _stays(r, g, place["fn"], t, limit):
            f = place["fn"]
            fn = fn_at(r["fn"], f)
            total += slot_of(r, g, f)["idle"] * (fn["bytes"] - fn["shared"])
    return total


@njit
def _evict_least(r, g, t, limit):
    """Evict an idle instance of least index, below `limit`; return whether there is one."""
    f, least = _scan(r, g, t, limit)
    if f == NONE:
        return False
    r["evictions"] += 1
    remove_instance(r, idle_on(r, f, g), t)
    # the unbiased index: a policy that inflates its multipliers must not inflate the price
    move_price(r, t, least / fn_at(r["fn"], f)["multiplier"])
    return True


@njit
def _evict_scan(r, g, target, t, limit):
    """Evict by ascending index, below `limit`, until `target` bytes have gone."""
    gpu = gpu_at(r["gpu"], g)
    before = gpu["used"]
    while before - gpu["used"] < target:
        if not _evict_least(r, g, t, limit):
            break


@njit
def evict_one(r, g, t, limit):
    """Evict the idle instance on GPU g that goes first (heap rules: whatever the limit), if any."""
    if r["eviction"] >= FIRST_SCAN:
        return _evict_least(r, g, t, limit)
    best = NONE
    least = math.inf
    for k in range(gpu_at(r["gpu"], g)["listed"]):
        f = listed_fn(r, g, k)
        prio = fn_at(r["fn"], f)["prio"]
        if slot_of(r, g, f)["idle"] > 0 and (best == NONE or prio < least):
            best, least = f, prio
    if best == NONE:
        return False
    r["clock"] = least if r["clock_assign"] else max(r["clock"], least)
    r["evictions"] += 1
    remove_instance(r, idle_on(r, best, g), t)
    return True


@njit
def make_room(r, g, need, t, limit):
    """Make `need` bytes free on GPU g; return whether they are.

    Only victims whose index is below `limit` leave (inf = any idle instance); nothing leaves when
    that could not suffice, unless `futile_eviction=allowed`. `eviction_need=full` frees the
    newcomer's full size, whatever is free already.
    """
    gpu = gpu_at(r["gpu"], g)
    short = need - (gpu["cap"] - gpu["used"])
    if short <= 0:
        return True
    if gpu["evictable"] < short and not r["futile"]:
        return False
    if r["eviction"] < FIRST_SCAN:
        if limit < math.inf:
            return False
        if gpu["evictable"] > 0:
            _evict_heap(r, g, need if r["need_full"] else short, t)
    else:
        if limit < math.inf and evictable_below(r, g, t, limit) < short:
            return False
        _evict_scan(r, g, short, t, limit)
    return gpu["cap"] - gpu["used"] >= need
