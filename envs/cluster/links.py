"""Links: loads share them equally (fair) or are served first come first served (fifo).

Under `fair` a load runs at the least of its own ceiling and an equal share of the link; under
`fifo` up to `slots` loads run at once, each at the least of its own ceiling and the link's rate.
A pipelined load stands in one link (disk or network) and passes through a second one (PCIe), which
it shares: its rate is the least of both. (Where the first is fifo, that is settled when its turn
comes.)
Loads are the instance slots themselves, chained through `prev` and `next`.  Units: bytes, seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.chains import append, take_out
from stoker.envs.cluster.events import LINK, PHASE, push, quantize, reschedule, scheduled
from stoker.envs.cluster.interference import load_slowdown
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import NONE, event_at, gpu_at, inst_at, link_at

DONE_S = 1e-9
"""A load with less than this left to do is over, or less than a few ulps of the clock."""
ULPS = 1e-15


@njit
def _append(r, link, i):
    """Append a load to those in service."""
    append(r, link, i)
    link["active"] += 1


@njit
def _remove(r, link, i):
    """Take a load out of those in service."""
    take_out(r, link, i)
    link["active"] -= 1


@njit
def _share_of(r, l):
    """What each load on link l, or passing through it, gets."""
    link = link_at(r["link"], l)
    if link["fifo"]:
        return link["rate"]
    return link["rate"] / max(link["active"] + link["passing"], 1)


@njit
def _pass(r, i, through, change):
    """Load i begins (1) or ends (-1) to pass through a link, or those of the GPUs that it spans."""
    link_at(r["link"], through)["passing"] += change
    j = inst_at(r["inst"], i)["shard"]
    while j != NONE:
        part = inst_at(r["inst"], j)
        link_at(r["link"], r["nodes"] + part["gpu"])["passing"] += change
        j = part["shard"]


@njit
def _share_passed(r, i, through, t):
    """Share anew the links that load i passes through, or has passed through."""
    _share_again(r, through, t)
    j = inst_at(r["inst"], i)["shard"]
    while j != NONE:
        part = inst_at(r["inst"], j)
        _share_again(r, r["nodes"] + part["gpu"], t)
        j = part["shard"]


@njit
def _passing_rate(r, inst):
    """What the links that a load passes through leave it: an equal part of it goes over each."""
    rate = _share_of(r, inst["through"])
    parts = 1
    j = inst["shard"]
    while j != NONE:
        part = inst_at(r["inst"], j)
        rate = min(rate, _share_of(r, r["nodes"] + part["gpu"]))
        parts += 1
        j = part["shard"]
    return rate * parts / inst["compression"]


@njit
def _share_others(r, l, i, through, t):
    """Share anew the links on which a change of link l by load i, `through` others, is felt."""
    pcie = l
    spans = False
    if through != NONE:
        _share_passed(r, i, through, t)
        pcie = through
        spans = inst_at(r["inst"], i)["shard"] != NONE
    if spans or (pcie >= r["nodes"] and link_at(r["link"], pcie)["passing"] > 0):
        disk = gpu_at(r["gpu"], pcie - r["nodes"])["node"]
        network = 2 * r["nodes"] + r["gpus"] + disk
        if disk != l:
            _share_again(r, disk, t)
        if network != l:
            _share_again(r, network, t)


@njit
def _share_again(r, l, t):
    link = link_at(r["link"], l)
    if link["fifo"] == 0 and link["active"] > 0:
        _share(r, l, t)


@njit
def _serve_fifo(r, link, i, t):
    """Start serving load i at full rate."""
    inst = inst_at(r["inst"], i)
    _append(r, link, i)
    rate = min(link["rate"], inst["rate"])
    if inst["through"] != NONE:
        _pass(r, i, inst["through"], 1)
        rate = min(rate, _passing_rate(r, inst))
        _share_others(r, inst["link"], i, inst["through"], t)
    inst["now_rate"] = rate / load_slowdown(r, inst)
    seconds = inst["left"] / inst["now_rate"]
    link["busy_s"] += seconds
    push(r, quantize(r, t + seconds), PHASE, i, inst["created"] & 0x7FFFFFFF)


@njit
def _share(r, l, t):
    """Advance the loads of a fair link to t and schedule the next to finish."""
    link = link_at(r["link"], l)
    dt = t - link["t"]
    share = _share_of(r, l)
    soonest = math.inf
    i = link["head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        if inst["queued"]:  # joined just now
            inst["queued"] = 0
        else:
            inst["left"] -= dt * inst["now_rate"]
        inst["now_rate"] = min(share, inst["rate"])
        if inst["through"] != NONE:
            inst["now_rate"] = min(inst["now_rate"], _passing_rate(r, inst))
        inst["now_rate"] /= load_slowdown(r, inst)
        soonest = min(soonest, max(inst["left"], 0.0) / inst["now_rate"])
        i = inst["next"]
    link["busy_s"] += dt
    if link["active"] > 0:
        link["stamp"] += 1
        push(r, t + soonest, LINK, l, link["stamp"] & 0x7FFFFFFF)
    if dt > 0.0:
        link["t"] = t


@njit
def join(r, l, through, i, n_bytes, ceiling, t):
    """Put load i (`n_bytes` at no more than `ceiling` bytes/s) on link l, and `through` another."""
    link = link_at(r["link"], l)
    inst = inst_at(r["inst"], i)
    inst["link"], inst["through"], inst["rate"] = l, through, ceiling
    inst["left"] = n_bytes * inst_at(r["inst"], inst["owner"])["noise"]
    link["bytes"] += n_bytes
    if link["fifo"] == 0:
        if link["active"] == 0:
            link["t"] = t
        inst["queued"] = 1
        _append(r, link, i)
        if through != NONE:
            _pass(r, i, through, 1)
        _share(r, l, t)
        _share_others(r, l, i, through, t)
    elif link["active"] < link["slots"]:
        _serve_fifo(r, link, i, t)
    else:
        inst["next"] = NONE
        if link["q_tail"] == NONE:
            link["q_head"] = i
        else:
            inst_at(r["inst"], link["q_tail"])["next"] = i
        link["q_tail"] = i
        link["queued"] += 1


@njit
def leave(r, i, t):
    """Take the finished load i off its link and serve the next."""
    inst = inst_at(r["inst"], i)
    l, through = inst["link"], inst["through"]
    link = link_at(r["link"], l)
    inst["link"] = inst["through"] = NONE
    _remove(r, link, i)
    if through != NONE:
        _pass(r, i, through, -1)
    if link["fifo"] == 0:
        _share(r, l, t)
        _share_others(r, l, i, through, t)
    elif link["q_head"] != NONE:
        following = link["q_head"]
        link["q_head"] = inst_at(r["inst"], following)["next"]
        if link["q_head"] == NONE:
            link["q_tail"] = NONE
        link["queued"] -= 1
        _serve_fifo(r, link, following, t)
    if link["fifo"] and through != NONE:
        _share_others(r, l, i, through, t)


@njit
def finished(r, l, stamp, t):
    """Bring a fair link to t and return a load that is over, or NONE."""
    link = link_at(r["link"], l)
    if (link["stamp"] & 0x7FFFFFFF) != stamp:
        return NONE
    dt = t - link["t"]
    link["busy_s"] += dt
    over = NONE
    i = link["head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        inst["left"] -= dt * inst["now_rate"]
        if over == NONE and inst["left"] <= inst["now_rate"] * max(DONE_S, ULPS * t):
            over = i
        i = inst["next"]
    link["t"] = t
    return over


@njit
def relink(r, l, stamp, t):
    """The timer of a fair link fired a rounding error too early: set it again."""
    if (link_at(r["link"], l)["stamp"] & 0x7FFFFFFF) == stamp:
        _share(r, l, t)


@njit
def _settle_again(r, l, t):
    """Time the loads in service on a fifo link anew."""
    link = link_at(r["link"], l)
    i = link["head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        rate = min(link["rate"], inst["rate"])
        if inst["through"] != NONE:
            rate = min(rate, _passing_rate(r, inst))
        rate /= load_slowdown(r, inst)
        k = scheduled(r, PHASE, i, inst["created"] & 0x7FFFFFFF)
        before_s = event_at(r["heap"], k)["t"] - t
        left_s = before_s * inst["now_rate"] / rate
        link["busy_s"] += left_s - before_s
        inst["now_rate"] = rate
        reschedule(r, k, quantize(r, t + left_s))
        i = inst["next"]


@njit
def _time_again(r, l, t):
    """The rate of link l, or of one that its loads pass through, has changed."""
    if link_at(r["link"], l)["fifo"]:
        _settle_again(r, l, t)
    else:
        _share_again(r, l, t)


@njit
def time_loads(r, g, t):
    """Batches have begun or ended on GPU g: the loads onto it go on at another speed."""
    nodes, gpus, n = r["nodes"], r["gpus"], gpu_at(r["gpu"], g)["node"]
    _time_again(r, n, t)
    _time_again(r, nodes + g, t)
    _time_again(r, nodes + gpus + n, t)
    _time_again(r, 2 * nodes + gpus + n, t)


@njit
def set_rate(r, l, rate, t):
    """Link l moves so many bytes a second from t on; loads in progress go on at that."""
    link = link_at(r["link"], l)
    link["rate"] = rate
    _time_again(r, l, t)
    if link["passing"] > 0:  # a PCIe link: what passes through stands in a link of its node
        n = gpu_at(r["gpu"], l - r["nodes"])["node"]
        _time_again(r, n, t)
        _time_again(r, 2 * r["nodes"] + r["gpus"] + n, t)


@njit
def clear(r, l, t):
    """Everything on link l is lost."""
    link = link_at(r["link"], l)
    i = link["head"]
    while i != NONE and link["fifo"]:  # booked to their end
        inst = inst_at(r["inst"], i)
        k = scheduled(r, PHASE, i, inst["created"] & 0x7FFFFFFF)
        link["busy_s"] -= event_at(r["heap"], k)["t"] - t
        i = inst["next"]
    if link["fifo"] == 0 and link["active"] > 0:
        link["busy_s"] += t - link["t"]
    link["head"] = link["tail"] = link["q_head"] = link["q_tail"] = NONE
    link["active"] = link["queued"] = link["passing"] = 0
    link["stamp"] += 1
