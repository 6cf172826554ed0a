"""Decisions at the event "a function becomes idle": observe it, close the books, carry on.

Shapes: B rows, K features, E experts.  Units: seconds (rewards are in units of a cold start).
"""

from __future__ import annotations

from stoker.envs.cluster.bill import charge
from stoker.envs.cluster.engine import NOTICED, OVER, PAUSED, advance, close
from stoker.envs.cluster.features import UNIT_EDGE
from stoker.envs.cluster.idleness import plan_idle
from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.llm_lanes import waiting_s
from stoker.envs.cluster.observe import observe
from stoker.envs.cluster.order import rescore
from stoker.envs.cluster.prefetch import bring_ahead
from stoker.envs.cluster.rules.hazard import expert_mass
from stoker.envs.cluster.tables import AGES, EXPERTS, NONE, f8_at, fn_at, req_at

TERMS = ("wait", "rent", "host", "load", "drop", "shadow")
"""Reward terms, all costs >= 0, in seconds of waiting; `shadow` is the price of the memory held."""
WORST = 5.0
"""Rewards are clipped at so many cold starts."""


@njit
def read_terms(r, f, out):
    """Read and reset what function f has cost since its last decision. Shape of out: (6,)"""
    fn = fn_at(r["fn"], f)
    charge(r, f, r["now"])
    out[0] = fn["acc_wait_s"]
    out[1] = fn["acc_rent"]
    out[2] = fn["acc_host_gib_s"] * r["host_rent"]
    out[3] = fn["acc_load_s"] * r["load_price"]
    out[4] = fn["acc_drops"] * r["drop_price"]
    out[5] = fn["acc_shadow"]
    fn["acc_wait_s"] = fn["acc_gib_s"] = fn["acc_host_gib_s"] = 0.0
    fn["acc_load_s"] = fn["acc_rent"] = fn["acc_shadow"] = 0.0
    fn["acc_drops"] = fn["acc_requests"] = fn["acc_late"] = 0


@njit
def cold_cost(r, f):
    """What one cold start of f costs: s."""
    fn = fn_at(r["fn"], f)
    return max(fn["load_disk_s"] * (1.0 + r["load_price"]), 1e-6)


@njit
def _describe(r, k, books):
    """Describe the decision that row k is due and close the one before it."""
    observation, terms, closes, likelihood, scale, function, now_s = books
    f = r["pending"]
    fn = fn_at(r["fn"], f)
    read_terms(r, f, terms[k])
    closes[k] = fn["decision"]
    for e in range(EXPERTS):
        likelihood[k, e] = fn["closing"][e]
    scale[k] = cold_cost(r, f)
    function[k], now_s[k] = f, r["now"]
    observe(r, f, r["now"], observation[k])


@njit
def _act(r, k, mix, multiplier, variant):
    """Carry out the decision that row k is due."""
    f = r["pending"]
    fn = fn_at(r["fn"], f)
    foreseen = True  # when it was described, unless the mix is another one
    for e in range(EXPERTS):
        foreseen &= fn["mix"][e] == mix[k, e]
        fn["mix"][e] = mix[k, e]
    if not foreseen or fn["multiplier"] != multiplier[k]:  # else its score stands
        rescore(r, f)
    fn["multiplier"] = multiplier[k]
    fn["variant"] = variant[k]
    fn["decision"] = r["decisions"]
    r["decisions"] += 1
    r["pending"] = NONE
    plan_idle(r, f, r["now"], foreseen)


@entry
def step_rows(rows, first, last, until, acting, plan, books):
    """Decide where a decision is due, then run on to the next one and describe it.

    One pass over rows first..last-1, each while it lies in the processor's cache. A row that is due
    a decision and gets none stays where it is. `status` says why a row has stopped.

    Args:
        rows: Shape: (B,)
        first: row to begin with.
        last: row before which to end.
        until: time to which each row runs. Shape: (B,)
        acting: whether `plan` holds decisions.
        plan: mix (B, E), multiplier (B,) and variant (B,) of the decisions; see IdlePlan.
        books: observation (B, K), terms (B, 6), closes (B,), likelihood (B, E), scale (B,),
            function (B,) and now_s (B,) of the rows that have paused; see Pending.

    Returns:
        One bit, 1 << status, for every status that a row of them has.
    """
    mix, multiplier, variant = plan
    seen = 0
    for k in range(first, last):
        r = rows[k]
        bring_ahead(rows, k, last)
        if acting and r["pending"] != NONE:
            _act(r, k, mix, multiplier, variant)
        waits = r["status"] == PAUSED and r["pending"] != NONE
        if not (waits or r["status"] == OVER or r["status"] == NOTICED):
            r["status"] = advance(r, until[k])
            if r["status"] == PAUSED:
                _describe(r, k, books)
            elif r["status"] == OVER:
                close(r)
        seen |= 1 << r["status"]
    return seen


@entry
def pay_rows(terms, closes, scale, weights, totals, rewards):
    """Add to the totals of an episode, and reward: weighted cost in cold starts, negative, clipped.

    Shapes: (B, 6), (B,), (B,), (6,), (B, 6), (B,)
    """
    for k in range(rewards.shape[0]):
        cost = 0.0
        for j in range(weights.shape[0]):
            totals[k, j] += terms[k, j]
            cost += weights[j] * terms[k, j]
        rewards[k] = -min(cost / scale[k], WORST) if closes[k] >= 0 else 0.0


@entry
def observe_rows(rows, books):
    """Describe the decision that each row is due, where one is: for a planner that does not run."""
    for k in range(rows.shape[0]):
        if rows[k]["pending"] != NONE:
            _describe(rows[k], k, books)


@entry
def act_rows(rows, plan):
    """Carry out the decision that each row is due, without running on."""
    mix, multiplier, variant = plan
    for k in range(rows.shape[0]):
        if rows[k]["pending"] != NONE:
            _act(rows[k], k, mix, multiplier, variant)


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
        if r["llms"] and fn["llm"] != NONE:
            terms[f, 0] += waiting_s(r, f)
        scale[f] = cold_cost(r, f)
        idle = fn["inflight"] == 0 and fn["queued"] == 0 and fn["decision"] != NONE
        survival[f] = 1 if idle else 0
        for e in range(EXPERTS):
            likelihood[f, e] = 0.0
            if idle:
                for j in range(AGES):
                    if r["first_bin"] * UNIT_EDGE[j] >= r["now"] - fn["last_idle"]:
                        likelihood[f, e] += expert_mass(r, f, e, j)
