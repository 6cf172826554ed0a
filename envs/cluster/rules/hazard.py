"""The hazard index: evict by forecast of the gap, keep and prewarm at the online price of memory.

Rule: index(age) = max over tau of P(gap <= age + tau | gap > age) / E[min(gap - age, tau) | gap >
age], times load time / size: the seconds of waiting saved by a GiB-second, the Gittins index of an
idle interval (Gittins 1979; Aalto, Ayesta, Righter 2009 for its hazard form). The lowest leaves.
The forecast mixes six experts over the function's own history; the heuristic uses the first alone,
a learned policy sets `mix`, `multiplier` and `variant` (all 1, 0 = as the heuristic).

| symbol | name |
| --- | --- |
| F, S = 1 - F | `cdf` at the bin edges |
| H(t) = integral of S | `hold`: expected time held up to t |
| L | start-up time |

Bins are those of features.py; the mass of a bin is spread evenly over it.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.bill import touch_price
from stoker.envs.cluster.features import bin_of
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.rules.params import (
    COST_EXPONENT,
    PRICE_FACTOR,
    PRIOR_WEIGHT,
    SIZE_EXPONENT,
    USE_PREWARM,
)
from stoker.envs.cluster.tables import AGES, EXPERTS, f8_at, fn_at

FLAT = 1.0
"""Pseudo-gaps spread evenly over the bins of the population prior."""
MIN_GIB = 1e-6
KERNEL = (0.4, 0.2, 0.1)
"""Mass of the last-gap expert on its own bin and on each neighbour at distance 1 and 2."""
AS_PLANNED, NO_PREWARM, EAGER = 0, 1, 2
EAGER_FACTOR = 0.25


@njit
def _param(r, k):
    return f8_at(r["param"], k)["v"]


@njit
def expert_mass(r, f, e, k):
    """Probability that expert e gives to bin k for the next gap of function f."""
    fn = fn_at(r["fn"], f)
    prior = (r["prior"][k] + FLAT / AGES) / (r["prior_sum"] + FLAT)
    if e == 2:
        return prior
    weight = max(_param(r, PRIOR_WEIGHT), 1e-9)
    if e == 0:
        unit = fn["slow_unit"]
        return (fn["slow"][k] / unit + weight * prior) / (fn["slow_sum"] / unit + weight)
    if e == 1:
        unit = fn["fast_unit"]
        return (fn["fast"][k] / unit + weight * prior) / (fn["fast_sum"] / unit + weight)
    if fn["gaps"] == 0:
        return prior
    if e == 3:
        apart = abs(k - bin_of(r["first_bin"], fn["gap"]))
        return 0.9 * KERNEL[apart] + 0.1 * prior if apart <= 2 else 0.1 * prior
    rate = fn["rate"][2] if e == 4 else fn["rate"][3]
    below = math.exp(-rate * r["edge"][k])
    above = 0.0 if k == AGES - 1 else math.exp(-rate * r["edge"][k + 1])
    return 0.9 * (below - above) + 0.1 * prior


@njit
def forecast(r, f):
    """Fill the scratch with the mixed forecast: mass, cdf and expected hold at the bin edges."""
    fn = fn_at(r["fn"], f)
    r["scratch_fn"] = f
    norm = 1.0 / (r["prior_sum"] + FLAT)
    weight = max(_param(r, PRIOR_WEIGHT), 1e-9)
    slow = fn["mix"][0] / (fn["slow_sum"] + weight * fn["slow_unit"])
    fast = fn["mix"][1] / (fn["fast_sum"] + weight * fn["fast_unit"])
    share = fn["mix"][2] + weight * (slow * fn["slow_unit"] + fast * fn["fast_unit"])
    total = 0.0
    for k in range(AGES):
        prior = (r["prior"][k] + FLAT / AGES) * norm
        mass = slow * fn["slow"][k] + fast * fn["fast"][k] + share * prior
        for e in range(3, EXPERTS):
            if fn["mix"][e] > 0.0:
                mass += fn["mix"][e] * expert_mass(r, f, e, k)
        r["mass"][k] = mass
        total += mass
    r["cdf"][0] = 0.0
    r["hold"][0] = 0.0
    for k in range(AGES):
        # normalised: the counts are float32, and what they miss of 1 would drown the tail
        r["mass"][k] /= total
        r["cdf"][k + 1] = min(r["cdf"][k] + r["mass"][k], 1.0)
        width = r["edge"][k + 1] - r["edge"][k]
        survival = 1.0 - 0.5 * (r["cdf"][k] + r["cdf"][k + 1])
        r["hold"][k + 1] = r["hold"][k] + width * survival


@njit
def _slope(r, a, b):
    """Seconds of hold from edge a to edge b bought this much probability of an arrival."""
    hold = r["hold"][b] - r["hold"][a]
    return (r["cdf"][b] - r["cdf"][a]) / hold if hold > 1e-12 else 0.0


@njit
def worth(r, f):
    """Start-up time over size, each to its tuned exponent: s/GiB."""
    fn = fn_at(r["fn"], f)
    load = fn["load_host_s"] if fn["host_keep_alive_s"] > 0.0 else fn["load_disk_s"]
    gib = max(fn["gib"], MIN_GIB)
    return load ** _param(r, COST_EXPONENT) / gib ** _param(r, SIZE_EXPONENT)


@njit
def _fill_index(r, f):
    """Index of f at every age: slopes of the least concave majorant of F over H."""
    forecast(r, f)
    fn = fn_at(r["fn"], f)
    factor = worth(r, f)
    hull = r["hull"]
    slopes = r["mass"]
    hull[0] = AGES
    top = 0
    for k in range(AGES - 1, -1, -1):
        slope = _slope(r, k, hull[top])
        while top > 0 and slopes[top - 1] >= slope:
            top -= 1
            slope = _slope(r, k, hull[top])
        fn["index"][k] = slope * factor
        top += 1
        hull[top] = k
        slopes[top - 1] = slope
    fn["index_valid"] = 1


@njit
def hazard_score(r, f, age):
    """Index of function f after idling for `age` seconds: s/(GiB s)."""
    fn = fn_at(r["fn"], f)
    if fn["index_valid"] == 0:
        _fill_index(r, f)
    return fn["index"][bin_of(r["first_bin"], age)] * fn["multiplier"]


@njit
def _gain(r, k, rent, cost):
    """What holding up to edge k costs more than not holding at all."""
    return rent * r["hold"][k] - cost * r["cdf"][k]


@njit
def _best_keep(r, rent, cost):
    """Edge at which an idle instance should go, seen from the start of the gap."""
    best = 0
    for k in range(1, AGES + 1):
        if _gain(r, k, rent, cost) < _gain(r, best, rent, cost):
            best = k
    return best


@njit
def _plan_prewarm(r, f, rent, cost, fee, load):
    """Choose when to load again (edge a) and until when to hold (edge b), if that pays.

    cost(a) = min over k <= a of holding up to k, + cold starts between, + the prewarm's load and
    hold up to the best b >= a; each minimum is a running one, so the search is linear.
    """
    fn = fn_at(r["fn"], f)
    fn["prewarm_after_s"] = math.inf
    best_cost = _gain(r, _best_keep(r, rent, cost), rent, cost)
    until = r["hull"]
    until[AGES] = AGES
    for b in range(AGES - 1, -1, -1):
        later = until[b + 1]
        until[b] = b if _gain(r, b, rent, cost) <= _gain(r, later, rent, cost) else later
    keep = 0
    for a in range(1, AGES):
        if _gain(r, a, rent, cost) < _gain(r, keep, rent, cost):
            keep = a
        survival = 1.0 - r["cdf"][a]
        between = cost * r["cdf"][a] - rent * r["hold"][a]
        total = _gain(r, keep, rent, cost) + between + _gain(r, until[a], rent, cost)
        total += (fee + rent * load) * survival
        if until[a] > a and total < best_cost:
            best_cost = total
            ready = r["edge"][a]
            fn["prewarm_after_s"] = max(ready - load, 0.0)
            fn["prewarm_keep_s"] = r["edge"][until[a]] - ready + load


@njit
def hazard_plan(r, f):
    """Set keep-alive and prewarm of f, which has just become idle.

    Keep-alive weighs rent alone: under pressure the index decides, and free memory costs nothing
    beyond rent. Prewarm weighs rent and the online price.
    """
    fn = fn_at(r["fn"], f)
    touch_price(r, r["now"])
    use_prewarm = _param(r, USE_PREWARM) > 0.0 and fn["variant"] != NO_PREWARM
    if r["rent"] == 0.0 and not (use_prewarm and r["price"] > 0.0):
        fn["prewarm_after_s"] = math.inf
        fn["index_valid"] = 0
        return
    if fn["index_valid"] == 0 or r["scratch_fn"] != f:
        _fill_index(r, f)
    load = fn["load_disk_s"]
    cost = load * (1.0 + r["load_price"]) * fn["multiplier"]
    gib = max(fn["gib"], MIN_GIB)
    if r["rent"] > 0.0:
        keep = _best_keep(r, r["rent"] * gib, cost)
        fn["keep_alive_s"] = math.inf if keep == AGES else r["edge"][keep]
    fn["prewarm_after_s"] = math.inf
    if use_prewarm:
        price = r["price"] * _param(r, PRICE_FACTOR)
        if fn["variant"] == EAGER:
            price *= EAGER_FACTOR
        rent = (r["rent"] + price) * gib
        _plan_prewarm(r, f, rent, cost, load * r["load_price"], load)
