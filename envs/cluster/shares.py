"""Weights of targets: whose instance takes the next batch, so that requests follow the weights.

Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) among the targets that have an instance
which can run now: the least start tag is next; start tag = max(own finish tag, start tag of the
last batch), finish tag = start tag + requests / weight. A target that could not run meanwhile does
not catch up. Instances under no weight come last.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.placed import names_gpu
from stoker.envs.cluster.tables import NONE, fn_at, target_at


@njit
def share_of(r, inst):
    """The first target with a weight that covers an instance, or NONE."""
    fn = fn_at(r["fn"], inst["fn"])
    for k in range(fn["target_first"], fn["target_first"] + fn["target_n"]):
        if target_at(r["target"], k)["weight"] > 0.0 and names_gpu(r, k, inst["gpu"]):
            return k
    return NONE


@njit
def _start_tag(r, f, k):
    if k == NONE:
        return math.inf
    return max(target_at(r["target"], k)["turn"], fn_at(r["fn"], f)["turn"])


@njit
def goes_before(r, f, k, other):
    """Whether target k is before another one of f; the first named wins ties."""
    mine, its = _start_tag(r, f, k), _start_tag(r, f, other)
    return mine < its or (mine == its and k != NONE and k < other)


@njit
def book_share(r, inst, n):
    """A batch of n requests begins on an instance."""
    k = share_of(r, inst)
    if k != NONE:
        fn, target = fn_at(r["fn"], inst["fn"]), target_at(r["target"], k)
        fn["turn"] = max(target["turn"], fn["turn"])
        target["turn"] = fn["turn"] + n / target["weight"]
