"""D(lambda): every interval's cheapest option at a given price of memory, and the memory it uses.

One pass over the intervals; the cost of holding from x to y is a difference of two look-ups in the
function's running total of kappa, whatever the length.

Shapes: I intervals, K time bins, F functions.  Units: seconds, GiB, dollars.
Source: see `lagrangian` and `relaxation`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from stoker.baselines.bounds.intervals import Floats
from stoker.baselines.bounds.relaxation import HOST, KEEP, NEVER, RELOAD, Relaxation


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
    """Sum the cheapest options; scatter the memory that they use, softly, over the bins.

    Functions small enough that memory is cheaper than waiting in every bin share one running total
    and one account of memory in use, in GiB; the others have their own, in instances.
    """
    count = len(lam)
    rate = price + lam
    total, ceiling = np.zeros(count + 1), 0.0
    for b in range(count):
        total[b + 1] = total[b] + rate[b] * widths_s[b]
        ceiling = max(ceiling, rate[b])
    kappa, before = np.empty(count), np.zeros(count + 1)
    shared_level, shared_part = np.zeros(count + 1), np.zeros(count)
    own_level, own_part = np.empty(count + 1), np.empty(count)
    cost, share, at = np.empty(4), np.empty(4), np.empty(5)
    used, parts = np.zeros(count), np.zeros(3)
    value, kept = 0.0, 0
    for fn in range(len(offsets) - 1):
        if offsets[fn] == offsets[fn + 1]:
            continue
        size = size_gib[fn]
        pooled = size * ceiling <= wait_usd_s
        if pooled:
            slope, height, scale, weight = rate, total, size, size
            level, part = shared_level, shared_part
        else:
            for b in range(count):
                kappa[b] = min(size * rate[b], wait_usd_s)
                before[b + 1] = before[b] + kappa[b] * widths_s[b]
            own_level[:] = 0.0
            own_part[:] = 0.0
            slope, height, scale, weight = kappa, before, 1.0, 1.0
            level, part = own_level, own_part
        for i in range(offsets[fn], offsets[fn + 1]):
            for k in range(5):
                at[k] = scale * (height[bins[i, k]] + slope[bins[i, k]] * after_s[i, k])
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
            busy = weight * (1.0 - share[3])
            _hold(level, part, bins[i, 1], after_s[i, 1], bins[i, 2], after_s[i, 2], busy)
            for k in (0, 3, 4):
                held = weight * share[max(k - 2, 0)]
                if held > 0.0:
                    _hold(level, part, bins[i, k], after_s[i, k], bins[i, 1], after_s[i, 1], held)
        if not pooled:
            held = 0.0
            for b in range(count):
                held += level[b]
                seconds = held * widths_s[b] + part[b]
                if size * rate[b] <= wait_usd_s:
                    used[b] += size * seconds
                else:
                    parts[2] += wait_usd_s * seconds
    held = 0.0
    for b in range(count):
        held += shared_level[b]
        used[b] += held * widths_s[b] + shared_part[b]
        parts[0] += price * used[b]
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
