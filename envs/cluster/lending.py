"""The process of an instance that starts: forked, parked, lent, in a parked sandbox, or new.

The quickest that there is on the node is taken. A parked process of the function's runtime saves
sandbox and runtime, a parked sandbox the sandbox.

Pagurus (USENIX ATC 2022): a function lends an idle instance to another of the same runtime, which
then takes `lent_s` to make its process its own. Its limits, as in the public code: a lender has
been idle for `lend_after_s`, the one that has been so longest goes first, and never a busy one; nor
one that its function's order `prewarm` or the floor of a target wants. The instance leaves its
device as if it had expired; its weights go to the host if that is ordered.  Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.host_tier import copy_of
from stoker.envs.cluster.instances import unload
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.layers import PROCESS, SANDBOX, chain_of, remove_layer
from stoker.envs.cluster.placed import standing
from stoker.envs.cluster.tables import NONE, fn_at, inst_at


@njit
def _lender(r, f, n, t):
    """The instance on node n that another function lends to f, or NONE."""
    best = NONE
    longest = math.inf
    k = fn_at(r["fn"], f)["kin"]
    while k != f:
        fn = fn_at(r["fn"], k)
        if fn["idle"] > 0 and fn["lend_after_s"] < math.inf and standing(fn) > fn["prewarm"]:
            i = fn["open_head"]
            while i != NONE:
                inst = inst_at(r["inst"], i)
                since = inst["idle_since"]
                rests = inst["inflight"] == 0 and since + fn["lend_after_s"] <= t
                free = inst["pinned"] == 0 and inst["node"] == n
                if rests and free and since < longest:
                    best, longest = i, since
                i = inst["next"]
        k = fn["kin"]
    return best


@njit
def _found(r, f, n, seconds, t):
    """Take a process or a sandbox that stands on node n if that is quicker than `seconds`."""
    fn = fn_at(r["fn"], f)
    parked = chain_of(r, n, PROCESS, fn["image"])["tail"]
    if parked != NONE:
        remove_layer(r, parked, t)
        r["layers_runtime"] += 1
        return 0.0
    sandbox = chain_of(r, n, SANDBOX, 0)["tail"]
    in_sandbox_s = fn["runtime_s"] if sandbox != NONE else math.inf
    if fn["lent_s"] < min(seconds, in_sandbox_s):
        i = _lender(r, f, n, t)
        if i != NONE:
            unload(r, i, t)
            r["lent"] += 1
            return fn["lent_s"]
    if in_sandbox_s < seconds:
        remove_layer(r, sandbox, t)
        r["layers_sandbox"] += 1
        return in_sandbox_s
    return seconds


@njit
def take_process(r, f, n, t):
    """Give an instance of f that starts on node n its process; return what that takes."""
    fn = fn_at(r["fn"], f)
    seconds = fn["process_s"]
    if fn["fork_s"] < seconds and copy_of(r, n, f)["ready"] > 0:
        seconds = fn["fork_s"]
    if r["images"] > 0 and seconds > 0.0:
        return _found(r, f, n, seconds, t)
    return seconds
