"""The clairvoyant lower bound by pricing memory: near-linear in the number of requests.

With a price lambda(t) >= 0 on device memory the relaxation falls apart into intervals:

    D(lambda) = sum over intervals of (busy spell + cheapest option) at rent + lambda
                - integral of lambda * capacity

is a lower bound for *every* lambda, so stopping early costs tightness, never validity. It is
maximised by Adam on log lambda with a soft minimum over the options as gradient.

Shapes: I intervals, K time bins, F functions.  Units: seconds, GiB, dollars.
Source: Lagrangian relaxation, Fisher, "The Lagrangian relaxation method for solving integer
programming problems", Management Science 1981; what is relaxed: `relaxation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from stoker.baselines.bounds.intervals import Floats, service_times
from stoker.baselines.bounds.relaxation import HOST, KEEP, NEVER, RELOAD, Relaxation, relax
from stoker.envs.cluster.spec import Cluster
from stoker.envs.workload import Workload


@dataclass(frozen=True)
class Bound:
    """A lower bound on the cost of policies, in dollars."""

    total_usd: float
    rent_usd: float
    """Rent in the relaxed solution, host copies included."""
    load_usd: float
    wait_usd: float
    scarcity_usd: float
    """What the memory limit adds: the relaxed solution's use of memory above (below) the capacity,
    at lambda. The three above and this one sum to `total_usd` (before `refused_usd`)."""
    refused_usd: float
    """Taken off because policies may refuse requests; 0 where that cannot pay."""
    free_usd: float
    """The same bound without a memory limit."""
    price_usd_gib_s: Floats
    """lambda by time bin. Shape: (K,)"""
    edges_s: Floats
    """Shape: (K + 1,)"""
    kept: float
    """Share of intervals kept on the device."""
    iterations: int
    valid_note: str
    """For which policies `total_usd` is a lower bound."""


def lower_bound(
    cluster: Cluster,
    workload: Workload,
    *,
    iterations: int = 200,
    bins: int = 1024,
    prewarm: bool = True,
) -> Bound:
    """Bound the cost of every policy from below; see `relaxation` for the exact statement.

    Args:
        cluster: prices, sizes and start-up times.
        workload: the requests, all known in advance.
        iterations: steps of the price search; more is tighter.
        bins: time bins of the memory price, at least 2; more is tighter.
        prewarm: False = only policies that start a function's only instance on demand.

    Returns:
        The bound; equal inputs give equal outputs.
    """
    relaxed = relax(cluster, workload, bins=bins, prewarm=prewarm)
    pricing = Pricing(relaxed)
    free = pricing.evaluate(np.zeros(len(relaxed.widths_s)))[0]
    lam, used = search(pricing, iterations)
    total, _, parts, kept = pricing.evaluate(lam)
    refused = _refusals(cluster, workload, relaxed, lam, prewarm=prewarm)
    scarcity = total - float(parts.sum())
    return Bound(
        total_usd=max(total - refused, 0.0),
        rent_usd=float(parts[0]),
        load_usd=float(parts[1]),
        wait_usd=float(parts[2]),
        scarcity_usd=scarcity,
        refused_usd=refused,
        free_usd=free,
        price_usd_gib_s=lam,
        edges_s=relaxed.edges_s,
        kept=kept / max(len(relaxed.intervals), 1),
        iterations=used,
        valid_note=_note(cluster, prewarm),
    )


class Pricing:
    """D(lambda) and its supergradient for one relaxation."""

    def __init__(self, relaxed: Relaxation) -> None:
        found = relaxed.intervals
        times = [found.start_s, found.end_s, found.busy_end_s, *(found.end_s - relaxed.lead_s)]
        places = [relaxed.locate(t) for t in times]
        self.relaxed = relaxed
        self._bins = np.stack([p.bin for p in places], axis=1)
        self._after_s = np.stack([p.after_s for p in places], axis=1)
        self._fixed_usd = np.ascontiguousarray(relaxed.fixed_usd.T)

    def evaluate(self, lam: Floats, softness: float = 0.0) -> tuple[float, Floats, Floats, int]:
        """Price the relaxation.

        Args:
            lam: price of memory by bin. Shape: (K,)
            softness: temperature of the soft minimum in the gradient, relative; 0 = exact.

        Returns:
            D(lambda), its (softened) gradient of shape (K,), the parts (rent, load, wait) of the
            exact solution at true prices, and the number of intervals kept.
        """
        r, found = self.relaxed, self.relaxed.intervals
        value, used, parts, kept = _price(
            lam,
            r.widths_s,
            r.device_usd_gib_s,
            r.wait_usd_s,
            r.costs.size_gib,
            found.offsets,
            self._bins,
            self._after_s,
            self._fixed_usd,
            r.load_usd,
            r.late_usd,
            r.copy_usd,
            r.never_usd,
            found.first,
            softness,
        )
        if not np.isfinite(r.capacity_gib):
            return float(value), np.zeros(len(lam)), parts, int(kept)
        room = r.capacity_gib * r.widths_s
        return float(value - lam @ room), used - room, parts, int(kept)


def search(pricing: Pricing, iterations: int) -> tuple[Floats, int]:
    """Maximise D: best constant price first, then Adam on its logarithm by bin."""
    zero = np.zeros(len(pricing.relaxed.widths_s))
    best_value, slope, _, _ = pricing.evaluate(zero)
    best = zero
    if iterations == 0 or not bool(np.any(slope > 0.0)):
        return best, 0
    start = _constant_price(pricing)
    log_lam = np.log(np.full(len(zero), start))
    mean, square = zero.copy(), zero.copy()
    for step in range(1, iterations + 1):
        left = 1.0 - step / (iterations + 1)
        lam = np.exp(log_lam)
        value, slope, _, _ = pricing.evaluate(lam, softness=0.02 + 0.2 * left**2)
        if value > best_value:
            best_value, best = value, lam
        uphill = slope * lam
        mean = 0.9 * mean + 0.1 * uphill
        square = 0.95 * square + 0.05 * uphill**2
        scale = np.sqrt(square / (1.0 - 0.95**step)) + 1e-12 * np.max(np.abs(uphill)) + 1e-300
        log_lam = log_lam + (0.01 + 0.4 * left**2) * (mean / (1.0 - 0.9**step)) / scale
    value = pricing.evaluate(np.exp(log_lam))[0]
    return (np.exp(log_lam) if value > best_value else best), iterations


def _constant_price(pricing: Pricing) -> float:
    """Search a geometric grid of constant prices below the one at which all would wait."""
    r = pricing.relaxed
    high = max(r.wait_usd_s, 1e-9) / float(np.min(r.costs.size_gib[r.costs.size_gib > 0.0]))
    grid = high * 4.0 ** -np.arange(0.0, 16.0)
    ones = np.ones(len(r.widths_s))
    values = [pricing.evaluate(price * ones)[0] for price in grid]
    return float(grid[int(np.argmax(values))])


def _refusals(
    cluster: Cluster, workload: Workload, relaxed: Relaxation, lam: Floats, *, prewarm: bool
) -> float:
    """Most that refusing requests can save below D: what exceeds `drop_usd` of serving one alone.

    A plan that refuses the set R becomes one that serves all when each of R gets an instance of
    its own, just in time. So cost >= D - sum over requests of (that price - drop)+.
    """
    drop_usd = cluster.objective.drop_usd
    if drop_usd == 0.0 or len(workload) == 0:
        return 0.0
    fn, costs = workload.function, relaxed.costs
    load_s, arrival_s = costs.load_s[fn], workload.arrival_s
    rate = np.concatenate([[0.0], np.cumsum((relaxed.device_usd_gib_s + lam) * relaxed.widths_s)])
    begin_s = np.maximum(arrival_s - load_s, 0.0) if prewarm else arrival_s
    start_s = np.maximum(arrival_s, begin_s + load_s)
    end_s = start_s + service_times(workload, costs)
    held = np.interp(end_s, relaxed.edges_s, rate) - np.interp(begin_s, relaxed.edges_s, rate)
    alone = costs.size_gib[fn] * held + cluster.objective.load_usd_s * load_s
    alone += cluster.objective.wait_usd_s * (start_s - arrival_s)
    return float(np.maximum(alone - drop_usd, 0.0).sum())


def _note(cluster: Cluster, prewarm: bool) -> str:
    who = "every policy" if prewarm else "every policy that starts a function's only instance late"
    drops = ", refusals included" if cluster.objective.drop_usd > 0.0 else " that refuses nothing"
    return f"relaxation; below {who}{drops}, from an empty cluster, all requests served or refused"


@njit(cache=True)
def _price(  # type: ignore[no-untyped-def]
    lam,
    widths_s,
    price,
    wait_usd_s,
    size_gib,
    offsets,
    bins,
    after_s,
    fixed_usd,
    load_usd,
    late_usd,
    copy_usd,
    never_usd,
    first,
    softness,
):
    """Sum the cheapest options; scatter the memory that they use, softly, over the bins."""
    count = len(lam)
    kappa, before = np.empty(count), np.zeros(count + 1)
    cost, share = np.empty(4), np.empty(4)
    level, part = np.empty(count + 1), np.empty(count)
    used, parts = np.zeros(count), np.zeros(3)
    at = np.empty(5)
    value, kept = 0.0, 0
    for fn in range(len(offsets) - 1):
        if offsets[fn] == offsets[fn + 1]:
            continue
        for b in range(count):
            kappa[b] = min(size_gib[fn] * (price + lam[b]), wait_usd_s)
            before[b + 1] = before[b] + kappa[b] * widths_s[b]
        level[:] = 0.0
        part[:] = 0.0
        for i in range(offsets[fn], offsets[fn + 1]):
            for k in range(5):
                at[k] = before[bins[i, k]] + kappa[bins[i, k]] * after_s[i, k]
            spell = at[2] - at[1]
            cost[0] = np.inf if first[i] else at[1] - at[0]
            cost[1] = fixed_usd[i, 0] + at[1] - at[3]
            cost[2] = fixed_usd[i, 1] + at[1] - at[4]
            cost[3] = never_usd[i] - spell
            pick = 0
            for k in range(1, 4):
                if cost[k] < cost[pick]:
                    pick = k
            value += spell + cost[pick]
            kept += pick == KEEP
            if pick in (RELOAD, HOST):
                parts[0] += copy_usd[pick - 1, i]
                parts[1] += load_usd[pick - 1, i]
                parts[2] += late_usd[pick - 1, i]
            elif pick == NEVER:
                parts[2] += never_usd[i]
            _soften(cost, pick, softness, share)
            busy = 1.0 - share[3]
            _hold(level, part, bins[i, 1], after_s[i, 1], bins[i, 2], after_s[i, 2], busy)
            _hold(level, part, bins[i, 0], after_s[i, 0], bins[i, 1], after_s[i, 1], share[0])
            for k in range(2):
                if share[k + 1] > 0.0:
                    _hold(
                        level,
                        part,
                        bins[i, k + 3],
                        after_s[i, k + 3],
                        bins[i, 1],
                        after_s[i, 1],
                        share[k + 1],
                    )
        held = 0.0
        for b in range(count):
            held += level[b]
            seconds = held * widths_s[b] + part[b]
            if size_gib[fn] * (price + lam[b]) <= wait_usd_s:
                used[b] += size_gib[fn] * seconds
                parts[0] += size_gib[fn] * price * seconds
            else:
                parts[2] += wait_usd_s * seconds
    return value, used, parts, kept


@njit(cache=True, inline="always")
def _soften(cost, pick, softness, share):  # type: ignore[no-untyped-def]
    """Share one unit among the options by a soft minimum; all to `pick` at softness 0."""
    if softness == 0.0:
        share[:] = 0.0
        share[pick] = 1.0
        return
    scale = softness * (abs(cost[pick]) + 1e-300)
    total = 0.0
    for k in range(4):
        away = (cost[k] - cost[pick]) / scale
        share[k] = np.exp(-away) if away < 12.0 else 0.0
        total += share[k]
    for k in range(4):
        share[k] /= total


@njit(cache=True, inline="always")
def _hold(level, part, low, low_s, high, high_s, share):  # type: ignore[no-untyped-def]
    """Add `share` instances from one (bin, seconds) to another."""
    level[low] += share
    part[low] -= share * low_s
    level[high] -= share
    part[high] += share * high_s
