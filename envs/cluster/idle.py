"""Decisions at the event "a function becomes idle": observe it, close the books, carry on.

Shapes: B rows, K features, E experts.  Units: seconds (rewards are in units of a cold start).
"""

from __future__ import annotations

from stoker.envs.cluster.bill import charge
from stoker.envs.cluster.idleness import plan_idle
from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.observe import observe
from stoker.envs.cluster.rules.hazard import expert_mass
from stoker.envs.cluster.tables import AGES, EXPERTS, NONE, f8_at, fn_at, req_at

TERMS = ("wait", "rent", "host", "load", "drop", "shadow")
"""Reward terms, all costs >= 0, in seconds of waiting; `shadow` is the price of the memory held."""


@njit
def read_terms(r, f, out):
    """Read and reset what function f has cost since its last decision. Shape of out: (6,)"""
    fn = fn_at(r["fn"], f)
    charge(r, f, r["now"])
    out[0] = fn["acc_wait_s"]
    out[1] = fn["acc_gib_s"] * r["rent"]
    out[2] = fn["acc_host_gib_s"] * r["host_rent"]
    out[3] = fn["acc_load_s"] * r["load_price"]
    out[4] = fn["acc_drops"] * r["drop_price"]
    out[5] = fn["acc_shadow"]
    fn["acc_wait_s"] = fn["acc_gib_s"] = fn["acc_host_gib_s"] = 0.0
    fn["acc_load_s"] = fn["acc_shadow"] = 0.0
    fn["acc_drops"] = fn["acc_requests"] = fn["acc_late"] = 0


@njit
def cold_cost(r, f):
    """What one cold start of f costs: s."""
    fn = fn_at(r["fn"], f)
    return max(fn["load_disk_s"] * (1.0 + r["load_price"]), 1e-6)


@entry
def observe_rows(rows, observation, terms, closes, likelihood, scale):
    """Describe the pending decision of every paused row and close the one before it.

    Args:
        rows: Shape: (B,)
        observation: filled. Shape: (B, K)
        terms: reward terms of the decision that closes, zeros if none. Shape: (B, 6)
        closes: number of that decision in its row, -1 = none. Shape: (B,)
        likelihood: probability that each expert gave to the gap that ended. Shape: (B, E)
        scale: cold cost of the function. Shape: (B,)
    """
    for k in range(rows.shape[0]):
        r = rows[k]
        f = r["pending"]
        closes[k] = NONE
        if f == NONE:
            continue
        fn = fn_at(r["fn"], f)
        read_terms(r, f, terms[k])
        closes[k] = fn["decision"]
        for e in range(EXPERTS):
            likelihood[k, e] = fn["closing"][e]
        scale[k] = cold_cost(r, f)
        observe(r, f, r["now"], observation[k])


@entry
def act_rows(rows, mix, multiplier, variant):
    """Carry out the decision of every paused row. Shapes: (B, E), (B,), (B,)"""
    for k in range(rows.shape[0]):
        r = rows[k]
        f = r["pending"]
        if f == NONE:
            continue
        fn = fn_at(r["fn"], f)
        for e in range(EXPERTS):
            if fn["mix"][e] != mix[k, e]:
                fn["mix"][e] = mix[k, e]
                fn["index_valid"] = 0
        fn["multiplier"] = multiplier[k]
        fn["variant"] = variant[k]
        fn["decision"] = r["decisions"]
        r["decisions"] += 1
        r["pending"] = NONE
        plan_idle(r, f, r["now"])


@entry
def close_episode(rows, k, terms, closes, likelihood, scale, survival):
    """Close the open decisions of row k at its horizon. Shapes: (F, 6), (F,), (F, E), (F,), (F,)

    `survival` is 1 where the gap was still running: `likelihood` then holds the probability that
    each expert gave to a gap longer than its age (a censored observation).
    """
    r = rows[k]
    for f in range(r["fns"]):
        fn = fn_at(r["fn"], f)
        read_terms(r, f, terms[f])
        closes[f] = fn["decision"]
        q = fn["q_head"]
        for _ in range(fn["queued"]):
            terms[f, 0] += r["now"] - f8_at(r["arrival"], q)["v"]
            q = req_at(r["req"], q)["next"]
        scale[f] = cold_cost(r, f)
        idle = fn["inflight"] == 0 and fn["queued"] == 0 and fn["decision"] != NONE
        survival[f] = 1 if idle else 0
        for e in range(EXPERTS):
            likelihood[f, e] = 0.0
            if idle:
                for j in range(AGES):
                    if r["edge"][j] >= r["now"] - fn["last_idle"]:
                        likelihood[f, e] += expert_mass(r, f, e, j)


@entry
def observe_functions(rows, k, observation):
    """Describe every function of row k as it stands now. Shape: (F, K)"""
    r = rows[k]
    for f in range(r["fns"]):
        observe(r, f, r["now"], observation[f])
