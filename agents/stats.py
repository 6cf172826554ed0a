"""How sure a comparison is: paired bootstrap intervals over (trace, seed) cells.

Every function takes paired columns: entry n of each belongs to the same cell. The aggregates are
those that Agarwal et al. (Deep RL at the Edge of the Statistical Precipice, 2021) recommend.

Shapes: N cells, K columns or frontier points, R resamples.  Units: dollars; ratios are plain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stoker.envs.cluster.errors import SpecError

Floats = NDArray[np.float64]
Draws = NDArray[np.int64]
"""Cells of each resample, from `resample`. Shape: (R, N)"""
Source = np.random.Generator | Draws
"""Draws, or a generator that makes them with every cell a unit of its own."""
Statistic = Callable[[Floats], Floats]
"""Maps samples of shape (R, N, K) to one number a resample. Shape: (R,)"""
RESAMPLES = 2000
LEVEL = 0.95
MIN_POINTS = 5


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    def excludes(self, number: float) -> bool:
        """Say whether the whole interval lies on one side of `number`."""
        return self.low > number or self.high < number


def iqm(values: ArrayLike, axis: int = -1) -> Floats:
    """Return the interquartile mean: a quarter of the values is dropped at each end."""
    ordered = np.sort(np.asarray(values, np.float64), axis=axis)
    n = ordered.shape[axis]
    cut = n // 4
    return np.asarray(np.take(ordered, np.arange(cut, n - cut), axis=axis).mean(axis=axis))


def resample(
    cells: int,
    rng: np.random.Generator,
    strata: ArrayLike | None = None,
    units: ArrayLike | None = None,
) -> Draws:
    """Draw cells with replacement, whole units at a time, within each stratum.

    Cells of one unit (the same trace and seed under several memory ratios) are not independent, so
    they are drawn together. Strata of a single cell would never vary, so these are pooled into one.

    Args:
        cells: number of cells.
        rng: source of the draws.
        strata: label of each cell, drawn within. Shape: (N,)
        units: label of each cell, drawn as a whole; each unit has the same number of cells, and
            strata are left aside. Shape: (N,)

    Returns:
        Indices of the cells drawn. Shape: (R, N)
    """
    if units is not None:
        _, label, count = np.unique(np.asarray(units), return_inverse=True, return_counts=True)
        if count.min() != count.max():
            raise SpecError("cells of each unit", count.tolist(), "as many for every unit")
        members = np.argsort(label, kind="stable").reshape(len(count), -1)
        drawn = rng.integers(0, len(count), (RESAMPLES, len(count)))
        return members[drawn].reshape(RESAMPLES, cells)
    if strata is None:
        return rng.integers(0, cells, (RESAMPLES, cells))
    _, label, count = np.unique(np.asarray(strata), return_inverse=True, return_counts=True)
    label = np.where(count[label] == 1, -1, label)
    index = np.empty((RESAMPLES, cells), np.int64)
    for stratum in np.unique(label):
        members = np.flatnonzero(label == stratum)
        index[:, members] = rng.choice(members, (RESAMPLES, len(members)))
    return index


def bootstrap(statistic: Statistic, samples: ArrayLike, draws: Source) -> Interval:
    """Return a statistic and its percentile interval.

    Args:
        statistic: maps (R, N, K) to (R,).
        samples: paired columns. Shape: (N,) or (N, K)
        draws: the resamples.
    """
    columns = np.asarray(samples, np.float64)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if not len(columns):
        return Interval(np.nan, np.nan, np.nan)
    value = float(statistic(columns[None])[0])
    return _interval(value, statistic(columns[_draws(draws, len(columns))]))


def mean(samples: ArrayLike, draws: Source, how: str = "mean") -> Interval:
    """Return the mean, median or interquartile mean (`iqm`) of one column. Shape: (N,)."""
    choices: dict[str, Statistic] = {
        "mean": lambda x: x[..., 0].mean(-1),
        "median": lambda x: np.median(x[..., 0], axis=-1),
        "iqm": lambda x: iqm(x[..., 0]),
    }
    return bootstrap(_pick("how", how, choices), samples, draws)


def paired_ratio(
    policy: ArrayLike, reference: ArrayLike, draws: Source, how: str = "sum"
) -> Interval:
    """Return the cost of a policy as a multiple of a reference's, below 1 = cheaper.

    Args:
        policy: cost in each cell. Shape: (N,)
        reference: cost of the reference in the same cells. Shape: (N,)
        draws: the resamples.
        how: `sum` = ratio of sums, `median` and `geomean` = of the cells' ratios.
    """
    choices: dict[str, Statistic] = {
        "sum": lambda x: x[..., 0].sum(-1) / x[..., 1].sum(-1),
        "median": lambda x: np.median(x[..., 0] / x[..., 1], axis=-1),
        "geomean": lambda x: np.exp(np.log(x[..., 0] / x[..., 1]).mean(-1)),
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        return bootstrap(_pick("how", how, choices), _pair(policy, reference), draws)


def regret(policy: ArrayLike, bound: ArrayLike, draws: Source) -> Interval:
    """Return how far the summed cost lies above a bound, as a share of it. Shape: (N,) each."""
    ratio = paired_ratio(policy, bound, draws)
    return Interval(ratio.value - 1.0, ratio.low - 1.0, ratio.high - 1.0)


def gap_closed(
    policy: ArrayLike, heuristic: ArrayLike, oracle: ArrayLike, draws: Source
) -> Interval:
    """Return the share of the gap from heuristic to oracle that a policy closes.

    1 = as good as the oracle; more is possible, as the oracle is a reference and not a bound.
    NaN where the oracle is not cheaper than the heuristic, or not surely so.

    Args:
        policy: cost in each cell. Shape: (N,)
        heuristic: cost of the best heuristic. Shape: (N,)
        oracle: cost of the oracle. Shape: (N,)
        draws: the resamples.
    """

    def share(x: Floats) -> Floats:
        cost, start, end = np.moveaxis(x.sum(-2), -1, 0)
        gap = start - end
        return np.where(gap > 0.0, (start - cost) / np.where(gap > 0.0, gap, 1.0), np.nan)

    return bootstrap(share, _pair(policy, heuristic, oracle), draws)


def kendall_tau(left: ArrayLike, right: ArrayLike) -> float:
    """Return Kendall's tau-b of two rankings of the same things, ties counted. Shape: (N,)."""
    columns = _pair(left, right)
    upper = np.triu_indices(len(columns), 1)
    a, b = (np.sign(np.subtract.outer(c, c))[upper] for c in columns.T)
    scale = np.sqrt(np.count_nonzero(a) * np.count_nonzero(b))
    return float(a @ b / scale) if scale else float("nan")


@dataclass(frozen=True)
class MatchedCost:
    """Dollars at a wanted SLO attainment."""

    usd: Interval
    status: str
    """matched; not reached: no setting attains it (usd is NaN); exceeded: the cheapest setting
    attains more, and usd is its cost."""


def lower_hull(attained: ArrayLike, usd: ArrayLike) -> tuple[Floats, Floats]:
    """Return the cheapest mixtures of settings: a convex curve that rises with the SLO.

    Any point on a straight line between two settings can be had by switching between them.

    Args:
        attained: SLO attainment of each setting. Shape: (K,)
        usd: cost of each setting. Shape: (K,)

    Returns:
        Attainments, ascending, and dollars of the corners of the hull.
    """
    points = _pair(attained, usd)
    points = points[np.isfinite(points).all(1)]
    hull: list[tuple[float, float]] = []
    for x, y in points[np.lexsort((-points[:, 0], points[:, 1]))]:
        if hull and x <= hull[-1][0]:
            continue  # dearer and no better
        while len(hull) > 1 and _above(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((float(x), float(y)))
    corners = np.asarray(hull, np.float64).reshape(-1, 2)
    return corners[:, 0], corners[:, 1]


def matched_slo(
    attained: ArrayLike, usd: ArrayLike, target: float, min_points: int = MIN_POINTS
) -> tuple[float, str]:
    """Return the dollars at which a policy attains `target`, and a status as in `MatchedCost`.

    Args:
        attained: SLO attainment of each setting of the policy. Shape: (K,)
        usd: cost of each setting. Shape: (K,)
        target: wanted attainment, 0..1.
        min_points: fewest settings that count as a frontier.

    Raises:
        SpecError: the frontier has too few points.
    """
    points = len(np.asarray(usd))
    if points < min_points:
        raise SpecError("frontier points", points, f">= {min_points} settings a policy")
    x, y = lower_hull(attained, usd)
    if not len(x) or target > x[-1]:
        return float("nan"), "not reached"
    if target < x[0]:
        return float(y[0]), "exceeded"
    return float(np.interp(target, x, y)), "matched"


def matched_cost(
    attained: ArrayLike,
    usd: ArrayLike,
    target: float,
    draws: Source,
    requests: ArrayLike | None = None,
    min_points: int = MIN_POINTS,
) -> MatchedCost:
    """Return dollars at matched SLO with an interval over cells.

    Args:
        attained: SLO attainment in each cell under each setting. Shape: (N, K)
        usd: cost in each cell under each setting. Shape: (N, K)
        target: wanted attainment, 0..1.
        draws: the resamples.
        requests: requests in each cell, the weight of its attainment. Shape: (N,)
        min_points: fewest settings that count as a frontier.
    """
    met, cost = np.asarray(attained, np.float64), np.asarray(usd, np.float64)
    weights = np.ones(len(cost)) if requests is None else np.asarray(requests, np.float64)
    index = np.concatenate([np.arange(len(cost))[None], _draws(draws, len(cost))])
    with np.errstate(invalid="ignore"):
        share = (met * weights[:, None])[index].sum(1) / weights[index].sum(1)[:, None]
    total = cost[index].sum(1)
    value, status = matched_slo(share[0], total[0], target, min_points)
    drawn = [matched_slo(share[r], total[r], target, min_points)[0] for r in range(1, len(index))]
    return MatchedCost(_interval(value, np.asarray(drawn)), status)


def _draws(source: Source, cells: int) -> Draws:
    return resample(cells, source) if isinstance(source, np.random.Generator) else source


def _interval(value: float, drawn: Floats) -> Interval:
    """Take percentiles; more undefined resamples than a tail holds leave the interval undefined."""
    finite = drawn[np.isfinite(drawn)]
    tail = (1.0 - LEVEL) / 2.0
    if not np.isfinite(value) or len(finite) < len(drawn) * (1.0 - tail):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(finite, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))


def _pair(*columns: ArrayLike) -> Floats:
    arrays = [np.asarray(column, np.float64) for column in columns]
    for array in arrays[1:]:
        if array.shape != arrays[0].shape:
            raise SpecError("paired columns", array.shape, f"the same cells {arrays[0].shape}")
    return np.stack(arrays, axis=-1)


def _pick(field: str, name: str, choices: dict[str, Statistic]) -> Statistic:
    if name not in choices:
        raise SpecError(field, name, " | ".join(choices))
    return choices[name]


def _above(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Say whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])
