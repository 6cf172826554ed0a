"""The clairvoyant relaxation as an exact linear program, for small cases and tests.

Each interval spreads one unit over its options {keep, reload, host, never}; an option holds the
level's memory from its own start to the end of the busy spell. Memory in use follows in flow form,
one usage variable a time bin, so an option touches four bins whatever its length. Waiting in place
of memory (`kappa` of the relaxation) enters as columns (function, bin), added where the price of
memory of the last solution makes them pay, until none does.

Shapes: I intervals, K time bins, V options, F functions.  Units: seconds, GiB, dollars.
Source: flow form after Berger, Beckmann, Harchol-Balter, SIGMETRICS 2018; solver: HiGHS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_matrix, csr_matrix, hstack, vstack

from stoker.baselines.bounds.intervals import Floats, Ints
from stoker.baselines.bounds.relaxation import Relaxation


@dataclass(frozen=True)
class LinearBound:
    """The optimum of the relaxation."""

    total_usd: float
    share: Floats
    """What each interval spends on keep, reload, host, never. Shape: (I, 4)"""
    price_usd_gib_s: Floats
    """Price of memory by bin: the duals of the capacity rows. Shape: (K,)"""
    rounds: int
    """Programs solved."""


@dataclass(frozen=True)
class _Options:
    """The options of all intervals as columns. All arrays of shape (V,) unless stated."""

    interval: Ints
    kind: Ints
    fixed_usd: Floats
    from_s: Floats
    to_s: Floats
    size_gib: Floats
    function: Ints

    @property
    def gib_s(self) -> Floats:
        """Memory held."""
        return self.size_gib * (self.to_s - self.from_s)


def solve(relaxed: Relaxation, *, method: str = "highs", tolerance: float = 1e-9) -> LinearBound:
    """Solve the relaxation exactly.

    Args:
        relaxed: from `relax`; meant for at most some 20,000 requests.
        method: of scipy.optimize.linprog; `highs-ipm` is quicker on the larger cases.
        tolerance: relative excess of price at which a waiting column is added.

    Raises:
        RuntimeError: the solver failed.
    """
    options, bins = _options(relaxed), len(relaxed.widths_s)
    if len(options.interval) == 0:
        return LinearBound(0.0, np.zeros((0, 4)), np.zeros(bins), 0)
    waiting: list[tuple[int, int]] = []
    known: set[tuple[int, int]] = set()
    rounds = 0
    while True:
        total, shares, lam = _solve(relaxed, options, waiting, method)
        rounds += 1
        added = [pair for pair in _paying(relaxed, options, lam, tolerance) if pair not in known]
        if not added:
            break
        known.update(added)
        waiting.extend(added)
    share = np.zeros((len(relaxed.intervals), 4))
    share[options.interval, options.kind] = shares
    return LinearBound(total, share, lam, rounds)


def _options(relaxed: Relaxation) -> _Options:
    found = relaxed.intervals
    every = np.arange(len(found))
    fixed = np.stack(
        [np.where(found.first, np.inf, 0.0), *relaxed.fixed_usd, relaxed.never_usd], axis=1
    )
    start = [found.start_s, found.end_s - relaxed.lead_s[0], found.end_s - relaxed.lead_s[1]]
    from_s = np.stack([*start, found.busy_end_s], axis=1)
    interval, kind = np.nonzero(np.isfinite(fixed))
    function = found.function[interval]
    return _Options(
        interval=every[interval],
        kind=kind,
        fixed_usd=fixed[interval, kind],
        from_s=from_s[interval, kind],
        to_s=found.busy_end_s[interval],
        size_gib=relaxed.costs.size_gib[function],
        function=function,
    )


def _paying(
    relaxed: Relaxation, options: _Options, lam: Floats, tolerance: float
) -> list[tuple[int, int]]:
    """(function, bin) pairs in which waiting is cheaper than memory."""
    rate = relaxed.costs.size_gib[:, None] * (relaxed.device_usd_gib_s + lam)[None, :]
    present = np.zeros(len(relaxed.costs.size_gib), np.bool_)
    present[options.function] = True
    excess = rate > relaxed.wait_usd_s * (1.0 + tolerance) + 1e-12
    return [(int(f), int(b)) for f, b in np.argwhere(excess & present[:, None])]


def _solve(
    relaxed: Relaxation, options: _Options, waiting: list[tuple[int, int]], method: str
) -> tuple[float, Floats, Floats]:
    """Columns: options, usage by bin, overflow by bin, waiting pairs."""
    bins, count = len(relaxed.widths_s), len(options.interval)
    flow, room = _memory_rows(relaxed, options)
    ones = csr_matrix(
        (np.ones(count), (options.interval, np.arange(count))),
        shape=(len(relaxed.intervals), count + 2 * bins),
    )
    equal = vstack([ones, flow])
    right = np.concatenate([np.ones(len(relaxed.intervals)), np.zeros(bins)])
    cost = np.concatenate(
        [
            options.fixed_usd + relaxed.device_usd_gib_s * options.gib_s,
            np.zeros(bins),
            np.full(bins, _overflow_price(relaxed)),
        ]
    )
    upper, limit = room, relaxed.capacity_gib * relaxed.widths_s
    if waiting:
        function, at = np.array(waiting).T
        sizes = relaxed.costs.size_gib[function]
        covered, pairs = _coverage(relaxed, options, function, at), np.arange(len(at))
        relief = coo_matrix((-sizes, (at, pairs)), shape=(bins, len(at)))
        own = coo_matrix((np.ones(len(at)), (pairs, pairs)), shape=(len(at), len(at)))
        upper = vstack([hstack([room, relief]), hstack([-covered, own])])
        limit = np.concatenate([limit, np.zeros(len(at))])
        equal = hstack([equal, csr_matrix((equal.shape[0], len(at)))])
        cost = np.concatenate([cost, relaxed.wait_usd_s - relaxed.device_usd_gib_s * sizes])
    finite = np.isfinite(limit)
    out = linprog(
        cost, A_ub=csr_matrix(upper)[finite], b_ub=limit[finite], A_eq=equal, b_eq=right,
        method=method,
    )  # fmt: skip
    if out.status != 0:
        raise RuntimeError(f"linear program of the bound failed: {out.message}")
    lam = np.zeros(len(limit))
    lam[finite] = -out.ineqlin.marginals
    return float(out.fun), np.asarray(out.x[:count], np.float64), np.maximum(lam[:bins], 0.0)


def _memory_rows(relaxed: Relaxation, options: _Options) -> tuple[csr_matrix, csr_matrix]:
    """Usage balance (= 0) and GiB-seconds used less overflow (<= room), by bin."""
    bins, count = len(relaxed.widths_s), len(options.interval)
    low, high = relaxed.locate(options.from_s), relaxed.locate(options.to_s)
    column, bin_, size = np.arange(count), np.arange(bins), options.size_gib
    usage, over = count + bin_, count + bins + bin_
    one = np.ones(bins)
    flow = coo_matrix(
        (
            np.concatenate([-size, size, one, -one[1:]]),
            (
                np.concatenate([low.bin, high.bin, bin_, bin_[1:]]),
                np.concatenate([column, column, usage, usage[:-1]]),
            ),
        ),
        shape=(bins, count + 2 * bins),
    )
    room = coo_matrix(
        (
            np.concatenate([-size * low.after_s, size * high.after_s, relaxed.widths_s, -one]),
            (
                np.concatenate([low.bin, high.bin, bin_, bin_]),
                np.concatenate([column, column, usage, over]),
            ),
        ),
        shape=(bins, count + 2 * bins),
    )
    return flow.tocsr(), room.tocsr()


def _overflow_price(relaxed: Relaxation) -> float:
    """Price of memory at which the smallest function too would rather wait."""
    sizes = relaxed.costs.size_gib
    return max(relaxed.wait_usd_s / float(sizes[sizes > 0.0].min()) - relaxed.device_usd_gib_s, 0.0)


def _coverage(relaxed: Relaxation, options: _Options, function: Ints, at: Ints) -> coo_matrix:
    """Seconds that every option holds within each (function, bin) pair."""
    rows, columns, seconds = [], [], []
    for row, (fn, b) in enumerate(zip(function, at, strict=True)):
        mine: NDArray[np.intp] = np.flatnonzero(options.function == fn)
        low = np.maximum(options.from_s[mine], relaxed.edges_s[b])
        overlap = np.minimum(options.to_s[mine], relaxed.edges_s[b + 1]) - low
        some = overlap > 0.0
        rows.append(np.full(int(some.sum()), row))
        columns.append(mine[some])
        seconds.append(overlap[some])
    bins, count = len(relaxed.widths_s), len(options.interval)
    place = (np.concatenate(rows), np.concatenate(columns))
    return coo_matrix((np.concatenate(seconds), place), shape=(len(at), count + 2 * bins))
