"""Weights that the functions of a family share on a GPU: held once while any instance is there.

Tetris (USENIX ATC 2022): resident bytes are the union of the tensors, counted by reference. k
fine-tunes of size s that share a part rho hold s (1 + (k - 1)(1 - rho)); see startup/tetris.py. A
load moves what is not there yet. The shared bytes are charged to one function of the family, while
it has an instance there; then to another. They can be evicted once no instance of the family loads
or works.  Units: bytes, seconds.
"""

from __future__ import annotations

from stoker.envs.cluster.bill import hold
from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.order import listed_fn, slot_of
from stoker.envs.cluster.tables import NONE, fg_at, fn_at, gpu_at


@njit
def family_on(r, f, g):
    """The record of f's family on GPU g; f must have one."""
    return fg_at(r["fg"], g * r["families"] + fn_at(r["fn"], f)["family"])


@hot
def bytes_on(r, f, g):
    """What a further instance of f takes on GPU g."""
    fn = fn_at(r["fn"], f)
    if fn["family"] != NONE and family_on(r, f, g)["n"] > 0:
        return fn["bytes"] - fn["shared"]
    return fn["bytes"]


@hot
def _use(r, gpu, used, evictable):
    """Book device memory in the GPU's and the row's totals."""
    gpu["used"] += used
    r["used"] += used
    gpu["evictable"] += evictable
    r["evictable"] += evictable


@hot
def occupy(r, f, g, t):
    """Take memory on GPU g for an instance of f that starts; return the weights it has to load."""
    fn, gpu = fn_at(r["fn"], f), gpu_at(r["gpu"], g)
    own = bytes_on(r, f, g)
    moves = fn["weights"]
    if fn["family"] != NONE:
        family = family_on(r, f, g)
        if family["ready"] > 0:
            moves -= fn["shared"]
        if family["n"] == 0:
            family["payer"] = f
        elif family["active"] == 0:
            _use(r, gpu, 0, -fn["shared"])
        family["n"] += 1
        family["active"] += 1
    hold(r, f, g, own, t)
    _use(r, gpu, own, 0)
    gpu["peak"] = max(gpu["peak"], gpu["used"])
    return moves


@hot
def make_evictable(r, f, g, fresh):
    """An instance of f on GPU g has nothing to do; `fresh`: it has just been loaded."""
    fn, gpu = fn_at(r["fn"], f), gpu_at(r["gpu"], g)
    free = fn["bytes"]
    if fn["family"] != NONE:
        family = family_on(r, f, g)
        family["ready"] += fresh
        family["active"] -= 1
        if family["active"] > 0:
            free -= fn["shared"]
    _use(r, gpu, 0, free)


@hot
def make_needed(r, f, g):
    """An idle instance of f on GPU g takes work."""
    fn, gpu = fn_at(r["fn"], f), gpu_at(r["gpu"], g)
    needed = fn["bytes"]
    if fn["family"] != NONE:
        family = family_on(r, f, g)
        if family["active"] > 0:
            needed -= fn["shared"]
        family["active"] += 1
    _use(r, gpu, 0, -needed)


@hot
def vacate(r, f, g, ready, t):
    """Free what an instance of f held on GPU g, off whose list it is: idle (ready) or loading."""
    fn, gpu = fn_at(r["fn"], f), gpu_at(r["gpu"], g)
    own, back = fn["bytes"], 0
    if fn["family"] != NONE:
        family = family_on(r, f, g)
        family["n"] -= 1
        family["ready"] -= ready
        family["active"] -= 1 - ready
        if family["n"] > 0:
            own -= fn["shared"]
            _pass_on(r, f, g, t)
            if not ready and family["active"] == 0:
                back = fn["shared"]
    hold(r, f, g, -own, t)
    _use(r, gpu, -own, back - own if ready else back)


@njit
def _pass_on(r, f, g, t):
    """Charge the shared weights to another function if f, which pays, has left GPU g."""
    family = family_on(r, f, g)
    if family["payer"] != f or slot_of(r, g, f)["n"] > 0:
        return
    fn = fn_at(r["fn"], f)
    for k in range(gpu_at(r["gpu"], g)["listed"]):
        other = listed_fn(r, g, k)
        if fn_at(r["fn"], other)["family"] == fn["family"]:
            family["payer"] = other
            hold(r, f, g, -fn["shared"], t)
            hold(r, other, g, fn["shared"], t)
            return
