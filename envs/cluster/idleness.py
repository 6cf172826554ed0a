"""What happens when a function becomes idle: pause or plan, set timers; and when the gap ends.

Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.events import PREWARM, push
from stoker.envs.cluster.features import bin_of, foresee, on_gap, put_back
from stoker.envs.cluster.instances import set_expiry
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.order import rescore
from stoker.envs.cluster.rules.hazard import expert_mass, hazard_plan
from stoker.envs.cluster.rules.hybrid_histogram import hybrid_gap, hybrid_plan
from stoker.envs.cluster.rules.residual import residual_multiplier
from stoker.envs.cluster.tables import EXPERTS, NONE, fn_at, inst_at

DECISION, HYBRID_HISTOGRAM, HAZARD_PLAN = 0, 1, 2


@njit
def close_gap(r, f, t):
    """The gap of f ends: note how likely each expert held it, then learn from it."""
    fn = fn_at(r["fn"], f)
    gap = t - fn["last_idle"]
    k = bin_of(r["first_bin"], gap)
    if r["pause"]:
        for e in range(EXPERTS):
            fn["closing"][e] = expert_mass(r, f, e, k)
    if r["plan"] == HYBRID_HISTOGRAM:
        hybrid_gap(r, f, gap)
    on_gap(r, f, gap, k)
    if r["oracle"] != 0:
        put_back(r, f)


@njit
def plan(r, f, t, foreseen):
    """Let the planning rule set the standing orders of f, which has become idle; set timers.

    `foreseen`: the scratch holds the forecast for f already.
    """
    fn = fn_at(r["fn"], f)
    if r["plan"] == HAZARD_PLAN:
        hazard_plan(r, f, foreseen)
    elif r["plan"] == HYBRID_HISTOGRAM:
        hybrid_plan(r, f)
    if fn["prewarm_after_s"] < math.inf:
        fn["prewarm_timer"] = t + fn["prewarm_after_s"]
        push(r, fn["prewarm_timer"], PREWARM, f, 0)
    else:
        fn["prewarm_timer"] = math.inf


@njit
def settle(r, i, t):
    """If instance i has nothing to do, plan its idleness; pause there for an outside decision."""
    inst = inst_at(r["inst"], i)
    if inst["inflight"] > 0:
        return
    f = inst["fn"]
    fn = fn_at(r["fn"], f)
    if fn["inflight"] == 0 and fn["queued"] == 0:
        fn["last_idle"] = t
        rescore(r, f)
        if r["oracle"] != 0:
            foresee(r, f)
        if r["pause"] and r["pending"] == NONE:
            r["pending"] = f
            return
        if r["theta"] != 0:
            residual_multiplier(r, f, t)
        plan(r, f, t, False)
    set_expiry(r, i)


@njit
def plan_idle(r, f, t, foreseen):
    """Carry out the decision for which the engine paused; `foreseen`: see `plan`."""
    plan(r, f, t, foreseen)
    i = fn_at(r["fn"], f)["open_head"]
    while i != NONE:
        inst = inst_at(r["inst"], i)
        following = inst["next"]
        if inst["inflight"] == 0:
            set_expiry(r, i)
        i = following
