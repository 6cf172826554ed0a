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

from stoker.baselines.bounds.corrections import refusals, starvation
from stoker.baselines.bounds.intervals import Floats
from stoker.baselines.bounds.pricing import Pricing
from stoker.baselines.bounds.relaxation import relax
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
    at lambda. The three above and this one sum to `total_usd` before the two below."""
    refused_usd: float
    """Taken off because policies may refuse requests; 0 where that cannot pay."""
    unserved_usd: float
    """Taken off because the run may end with requests still waiting; 0 where that cannot pay."""
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
    bins: int | None = None,
    prewarm: bool = True,
    carried: bool = False,
) -> Bound:
    """Bound the cost of every policy from below; see `relaxation` for the exact statement.

    Args:
        cluster: prices, sizes and start-up times.
        workload: the requests, all known in advance.
        iterations: steps of the price search; more is tighter.
        bins: time bins of the memory price, at least 2; more is tighter. None = one a request,
            within 64 and 16,384.
        prewarm: False = only policies that start a function's only instance on demand.
        carried: the workload is a later part of a run (see `Workload.window`) whose earlier part is
            neither billed nor waited for: whatever instances there were at its start are free.

    Returns:
        The bound; equal inputs give equal outputs.
    """
    if bins is None:
        bins = min(max(len(workload), 64), 16_384)
    relaxed = relax(cluster, workload, bins=bins, prewarm=prewarm, carried=carried)
    pricing = Pricing(relaxed)
    free = pricing.evaluate(np.zeros(len(relaxed.widths_s)))[0]
    lam, used = search(pricing, iterations)
    total, _, parts, kept = pricing.evaluate(lam)
    refused = refusals(cluster, workload, relaxed, lam, prewarm=prewarm)
    unserved = starvation(relaxed, lam, workload.horizon_s)
    scarcity = total - float(parts.sum())
    return Bound(
        total_usd=max(total - refused - unserved, 0.0),
        rent_usd=float(parts[0]),
        load_usd=float(parts[1]),
        wait_usd=float(parts[2]),
        scarcity_usd=scarcity,
        refused_usd=refused,
        unserved_usd=unserved,
        free_usd=free,
        price_usd_gib_s=lam,
        edges_s=relaxed.edges_s,
        kept=kept / max(len(relaxed.intervals), 1),
        iterations=used,
        valid_note=_note(cluster, prewarm, carried),
    )


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
        value, slope, _, _ = pricing.evaluate(lam, softness=0.001 + 0.1 * left**2.5)
        if value > best_value:
            best_value, best = value, lam
        uphill = slope * lam
        mean = 0.9 * mean + 0.1 * uphill
        square = 0.9 * square + 0.1 * uphill**2
        scale = np.sqrt(square / (1.0 - 0.9**step)) + 1e-12 * np.max(np.abs(uphill)) + 1e-300
        log_lam = log_lam + (0.002 + 0.4 * left**2.5) * (mean / (1.0 - 0.9**step)) / scale
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


def _note(cluster: Cluster, prewarm: bool, carried: bool) -> str:
    who = "every policy" if prewarm else "every policy that starts a function's only instance late"
    drops = ", refusals included" if cluster.objective.drop_usd > 0.0 else " that refuses nothing"
    begin = "whatever is there at first" if carried else "from an empty cluster"
    return f"relaxation; below {who}{drops}, {begin}, charged from 0 to the horizon"
