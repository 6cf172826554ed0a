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
from stoker.envs.cluster.features import OCTAVE, UNIT_EDGE, UNIT_WIDTH, bin_of
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.rules.params import (
    COST_EXPONENT,
    PRICE_FACTOR,
    PRIOR_WEIGHT,
    SIZE_EXPONENT,
    USE_PREWARM,
)
from stoker.envs.cluster.tables import AGES, f8_at, fn_at, scratch_at

FLAT = 1.0
"""Pseudo-gaps spread evenly over the bins of the population prior."""
MIN_GIB = 1e-6
TINY = 1e-12
"""Least expected hold, in seconds, that an index may rest on."""
KERNEL = (0.4, 0.2, 0.1)
"""Mass of the last-gap expert on its own bin and on each neighbour at distance 1 and 2."""
OWN = 0.9
"""Weight of the last three experts' own mass; the rest is the prior's."""
AS_PLANNED, NO_PREWARM, EAGER, AS_ORDERED = 0, 1, 2, 3
EAGER_FACTOR = 0.25


@njit
def _param(r, k):
    return f8_at(r["param"], k)["v"]


@njit
def _edge(r, k):
    return r["first_bin"] * UNIT_EDGE[k]


@njit
def kernel_mass(apart):
    """Mass of the last-gap expert so many bins from its own."""
    return KERNEL[abs(apart)] if abs(apart) <= 2 else 0.0


@njit
def _kernel(own, k):
    """Mass in bin k around bin `own`; what would lie outside lies in the outermost bins."""
    mass = kernel_mass(k - own)
    if k == 0:
        mass += kernel_mass(-1 - own) + kernel_mass(-2 - own)
    elif k == AGES - 1:
        mass += kernel_mass(AGES - own) + kernel_mass(AGES + 1 - own)
    return mass


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
        return OWN * _kernel(fn["gap_bin"], k) + (1.0 - OWN) * prior
    rate = fn["rate"][e - 2]
    below = math.exp(-rate * _edge(r, k))
    above = 0.0 if k == AGES - 1 else math.exp(-rate * _edge(r, k + 1))
    return OWN * (below - above) + (1.0 - OWN) * prior


@njit
def _add_exponential(r, scratch, share, rate):
    """Add an exponential gap's distribution to the scratch; five bins on, the age has doubled."""
    decay = scratch["decay"]
    for k in range(1, OCTAVE + 1):
        decay[k] = math.exp(-rate * _edge(r, k))
    for k in range(OCTAVE + 1, AGES):
        decay[k] = decay[k - OCTAVE] * decay[k - OCTAVE]
    decay[AGES] = 0.0
    for k in range(AGES):
        scratch["rest"][k] += share * (1.0 - decay[k + 1])


@njit
def _add_experts(r, f, scratch):
    """Distribution at the upper edges of what the last three experts say beside the prior."""
    fn = fn_at(r["fn"], f)
    below = 0.0
    for k in range(AGES):
        below += OWN * fn["mix"][3] * _kernel(fn["gap_bin"], k)
        scratch["rest"][k] = below
    _add_exponential(r, scratch, OWN * fn["mix"][4], fn["rate"][2])
    _add_exponential(r, scratch, OWN * fn["mix"][5], fn["rate"][3])


@njit
def forecast(r, f):
    """Fill the scratch with the mixed forecast: distribution and expected hold at the edges."""
    fn = fn_at(r["fn"], f)
    s = scratch_at(r["scratch"], 0)
    mix = fn["mix"]
    last = mix[3] + mix[4] + mix[5]
    total = mix[0] + mix[1] + mix[2] + last
    weight = max(_param(r, PRIOR_WEIGHT), 1e-9)
    slow = mix[0] / (total * (fn["slow_sum"] + weight * fn["slow_unit"]))
    fast = mix[1] / (total * (fn["fast_sum"] + weight * fn["fast_unit"]))
    share = mix[2] / total + weight * (slow * fn["slow_unit"] + fast * fn["fast_unit"])
    others = last > 0.0 and fn["gaps"] > 0
    share += last / total * (1.0 - OWN) if others else last / total
    if others:
        _add_experts(r, f, s)
    share /= r["prior_sum"] + FLAT
    own, recent, prior, mass = fn["slow"], fn["fast"], r["prior"], s["gain"]
    for k in range(AGES):
        mass[k] = slow * own[k] + fast * recent[k] + share * prior[k] + share * FLAT / AGES
    cdf, hold = s["cdf"], s["hold"]
    below = 0.0
    held = 0.0
    before = 0.0
    cdf[0] = hold[0] = 0.0
    for k in range(AGES):
        below += mass[k]
        at = min(below + s["rest"][k] / total, 1.0) if others else min(below, 1.0)
        held += UNIT_WIDTH[k] * (1.0 - 0.5 * (before + at))
        cdf[k + 1] = before = at
        hold[k + 1] = r["first_bin"] * held


@njit
def _power(x, exponent):
    return x if exponent == 1.0 else x**exponent


@njit
def worth(r, f):
    """Start-up time over size, each to its tuned exponent: s/GiB."""
    fn = fn_at(r["fn"], f)
    load = fn["load_host_s"] if fn["host_keep_alive_s"] > 0.0 else fn["load_disk_s"]
    gib = max(fn["gib"], MIN_GIB)
    return _power(load, _param(r, COST_EXPONENT)) / _power(gib, _param(r, SIZE_EXPONENT))


@njit
def index_of(r, f, age):
    """Index of f by the forecast in the scratch, without its multiplier: s/(GiB s)."""
    s = scratch_at(r["scratch"], 0)
    cdf, hold = s["cdf"], s["hold"]
    first = bin_of(r["first_bin"], age)
    alive = 1.0 - cdf[first]
    best = 0.0
    for k in range(first + 1, AGES + 1):
        held = hold[k] - hold[first]
        if best * held > alive:  # not even all that is left could do better
            break
        if held > TINY:
            best = max(best, (cdf[k] - cdf[first]) / held)
    return best * worth(r, f)


@njit
def _fill_index(r, f):
    """Index of f at every age by the forecast: slopes of the least concave majorant of F over H."""
    fn = fn_at(r["fn"], f)
    s = scratch_at(r["scratch"], 0)
    cdf, hold, hull, rise, run = s["cdf"], s["hold"], s["hull"], s["rise"], s["run"]
    for k in range(AGES - 1, -1, -1):
        end = k + 1  # where the hull's edge from k ends; those from there on are known
        up = cdf[end] - cdf[k]
        over = hold[end] - hold[k]
        while end < AGES and rise[end] * over >= up * run[end]:
            end = hull[end]
            up = cdf[end] - cdf[k]
            over = hold[end] - hold[k]
        hull[k], rise[k], run[k] = end, up if over > TINY else 0.0, over
    factor = worth(r, f)
    for k in range(AGES):
        fn["index"][k] = factor * rise[k] / max(run[k], TINY)
    fn["index_valid"] = 1


@njit
def hazard_score(r, f, k):
    """Index of function f at an idle age in bin k, by a forecast made once a gap."""
    fn = fn_at(r["fn"], f)
    if fn["index_valid"] == 0:
        forecast(r, f)
        _fill_index(r, f)
    return fn["index"][k] * fn["multiplier"]


@njit
def _price_edges(s, rent, cost):
    """What holding up to each edge costs more than not holding at all."""
    gain, hold, cdf = s["gain"], s["hold"], s["cdf"]
    for k in range(AGES + 1):
        gain[k] = rent * hold[k] - cost * cdf[k]


@njit
def _cheapest(gain, first):
    """The first edge of least cost from `first` on."""
    best = AGES
    for k in range(AGES - 1, first - 1, -1):
        if gain[k] <= gain[best]:
            best = k
    return best


@njit
def _plan_prewarm(r, f, rent, cost, fee, load):
    """Choose when to load again (edge a) and until when to hold (edge b), if that pays.

    cost(a) = min over k <= a of holding up to k, + cold starts between, + the prewarm's load and
    hold up to the best b > a; each minimum is a running one, so the search is linear.
    """
    fn = fn_at(r["fn"], f)
    s = scratch_at(r["scratch"], 0)
    _price_edges(s, rent, cost)
    gain, cdf, later = s["gain"], s["cdf"], s["rise"]
    least = math.inf
    for k in range(AGES, -1, -1):
        later[k] = least  # of the edges after k
        least = min(least, gain[k])
    best_cost = least
    again = fee + rent * load
    least = gain[0]
    chosen = 0
    for a in range(1, AGES):
        least = min(least, gain[a])
        total = least - gain[a] + later[a] + again * (1.0 - cdf[a])
        if total < best_cost and later[a] < gain[a]:
            best_cost = total
            chosen = a
    fn["prewarm_after_s"] = math.inf
    if chosen > 0:
        ready = _edge(r, chosen)
        fn["prewarm_after_s"] = max(ready - load, 0.0)
        fn["prewarm_keep_s"] = _edge(r, _cheapest(gain, chosen + 1)) - ready + load


@njit
def hazard_plan(r, f, foreseen):
    """Set keep-alive and prewarm of f, which has just become idle.

    Keep-alive weighs rent alone: under pressure the index decides, and free memory costs nothing
    beyond rent. Prewarm weighs rent and the online price. Variant AS_ORDERED leaves the orders
    that stand. `foreseen`: the scratch holds f's forecast, made at this instant.
    """
    fn = fn_at(r["fn"], f)
    if fn["variant"] == AS_ORDERED:
        return
    touch_price(r, r["now"])
    use_prewarm = _param(r, USE_PREWARM) > 0.0 and fn["variant"] != NO_PREWARM
    fn["prewarm_after_s"] = math.inf
    if r["rent"] == 0.0 and r["price"] == 0.0:
        return
    if not foreseen:
        forecast(r, f)
    load = fn["load_disk_s"]
    cost = load * (1.0 + r["load_price"]) * fn["multiplier"]
    gib = max(fn["gib"], MIN_GIB)
    if r["rent"] > 0.0:
        s = scratch_at(r["scratch"], 0)
        _price_edges(s, r["rent"] * gib, cost)
        keep = _cheapest(s["gain"], 0)
        fn["keep_alive_s"] = math.inf if keep == AGES else _edge(r, keep)
    if use_prewarm:
        price = r["price"] * _param(r, PRICE_FACTOR)
        if fn["variant"] == EAGER:
            price *= EAGER_FACTOR
        rent = (r["rent"] + price) * gib
        _plan_prewarm(r, f, rent, cost, load * r["load_price"], load)
