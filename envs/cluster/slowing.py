"""Batches on a GPU that slow each other (shared in time, or by interference), or that loads slow.

Each batch of such a GPU keeps what it has left to do, in seconds alone, and its present speed. At
every start and end on the GPU the work is brought up to date, all speeds are set anew, and a timer
is set for the batch that ends first; timers with an older stamp are void.

| `slows` | speed of each of k batches |
| --- | --- |
| PROCESSOR | 1 / k: egalitarian processor sharing |
| LINEAR, EXCESS | 1 / its slowdown (interference.py); 1 where k = 1 |
| BY_LOADS | 1 |

While something is loaded onto the GPU, all of these speeds are divided by `batch_beside_load`;
while a batch runs, those of the loads by `load_beside_batch` (links.py).

Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.events import SLOW_DONE, push, quantize
from stoker.envs.cluster.interference import excess_slowdown, linear_slowdown
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.links import DONE_S, ULPS, time_loads
from stoker.envs.cluster.tables import BY_LOADS, LINEAR, NONE, PROCESSOR, fn_at, gpu_at, slowed_at


@njit
def _take_place(r):
    """A free place in the table of batches; the engine's loop sees to it that there is one."""
    k = r["slowed_free"]
    if k == NONE:
        k = r["slowed_n"]
    else:
        r["slowed_free"] = slowed_at(r["slowed"], k)["next"]
    r["slowed_n"] += 1
    return k


@njit
def _append(r, gpu, k):
    batch = slowed_at(r["slowed"], k)
    batch["prev"], batch["next"] = gpu["slowed_tail"], NONE
    if gpu["slowed_tail"] == NONE:
        gpu["slowed_head"] = k
    else:
        slowed_at(r["slowed"], gpu["slowed_tail"])["next"] = k
    gpu["slowed_tail"] = k


@njit
def _remove(r, gpu, k):
    batch = slowed_at(r["slowed"], k)
    if batch["prev"] == NONE:
        gpu["slowed_head"] = batch["next"]
    else:
        slowed_at(r["slowed"], batch["prev"])["next"] = batch["next"]
    if batch["next"] == NONE:
        gpu["slowed_tail"] = batch["prev"]
    else:
        slowed_at(r["slowed"], batch["next"])["prev"] = batch["prev"]
    batch["next"] = r["slowed_free"]
    r["slowed_free"] = k
    r["slowed_n"] -= 1


@njit
def _work(r, gpu, t):
    """Bring what the batches have left to do up to t."""
    dt = t - gpu["slowed_t"]
    k = gpu["slowed_head"]
    while k != NONE:
        batch = slowed_at(r["slowed"], k)
        batch["left"] -= dt * batch["speed"]
        k = batch["next"]
    gpu["slowed_t"] = t


@njit
def _demand(r, gpu):
    """How many batches run, and the sums of their compute and memory utilisation."""
    n, compute, memory = 0, 0.0, 0.0
    k = gpu["slowed_head"]
    while k != NONE:
        batch = slowed_at(r["slowed"], k)
        fn = fn_at(r["fn"], batch["fn"])
        n += 1
        compute += fn["compute_util"]
        memory += fn["memory_util"]
        k = batch["next"]
    return n, compute, memory


@njit
def _slowdown(gpu, fn, n, compute, memory):
    """What a batch's time is multiplied with while n batches run that ask for so much in all."""
    if n == 1 or gpu["slows"] == BY_LOADS:
        return 1.0
    if gpu["slows"] == PROCESSOR:
        return float(n)
    if gpu["slows"] == LINEAR:
        return linear_slowdown(gpu, fn, compute, memory)
    return excess_slowdown(compute, memory)


@njit
def _set_speeds(r, g, t):
    """Set all speeds anew, and the timer for the batch that ends first (of equals the oldest)."""
    gpu = gpu_at(r["gpu"], g)
    n, compute, memory = _demand(r, gpu)
    beside = gpu["batch_beside_load"] if gpu["loading"] > 0 else 1.0
    soonest = math.inf
    k = gpu["slowed_head"]
    while k != NONE:
        batch = slowed_at(r["slowed"], k)
        slowdown = beside * _slowdown(gpu, fn_at(r["fn"], batch["fn"]), n, compute, memory)
        batch["speed"] = 1.0 / slowdown
        seconds = batch["left"] * slowdown
        if seconds <= max(DONE_S, ULPS * t):  # a rounding error is left
            seconds = 0.0
        if seconds < soonest:
            soonest = seconds
            gpu["due"] = k
        k = batch["next"]
    if n > 0:
        gpu["slowed_stamp"] += 1
        push(r, quantize(r, t + soonest), SLOW_DONE, g, gpu["slowed_stamp"] & 0x7FFFFFFF)


@njit
def _time_loads(r, g, t):
    gpu = gpu_at(r["gpu"], g)
    if gpu["load_beside_batch"] != 1.0 and gpu["loading"] > 0:
        time_loads(r, g, t)


@njit
def loads_changed(r, g, t):
    """A load onto GPU g has begun or ended, and batches beside it are slowed by one."""
    _work(r, gpu_at(r["gpu"], g), t)
    _set_speeds(r, g, t)


@njit
def begin_batch(r, g, f, head, n, seconds, t):
    """A batch of n requests of f from `head`, of so many seconds alone, begins on GPU g."""
    gpu = gpu_at(r["gpu"], g)
    _work(r, gpu, t)
    k = _take_place(r)
    batch = slowed_at(r["slowed"], k)
    batch["fn"], batch["head"], batch["n"], batch["left"] = f, head, n, seconds
    _append(r, gpu, k)
    _set_speeds(r, g, t)
    _time_loads(r, g, t)


@njit
def end_batch(r, g, stamp, t):
    """The timer of GPU g fires: the head and size of the batch that is over, or NONE if void."""
    gpu = gpu_at(r["gpu"], g)
    if (gpu["slowed_stamp"] & 0x7FFFFFFF) != stamp:
        return NONE, 0
    _work(r, gpu, t)
    k = gpu["due"]
    batch = slowed_at(r["slowed"], k)
    head, n = batch["head"], batch["n"]
    _remove(r, gpu, k)
    _set_speeds(r, g, t)
    _time_loads(r, g, t)
    return head, n


@njit
def drop_batch(r, g):
    """GPU g is lost: the head and size of a batch that ran on it, or NONE if none is left."""
    gpu = gpu_at(r["gpu"], g)
    k = gpu["slowed_head"]
    if k == NONE:
        gpu["slowed_stamp"] += 1
        return NONE, 0
    batch = slowed_at(r["slowed"], k)
    head, n = batch["head"], batch["n"]
    _remove(r, gpu, k)
    return head, n
