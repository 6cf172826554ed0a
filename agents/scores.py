"""The score of each policy against the opponents and the yardsticks, with intervals.

The bootstrap draws (trace, seed) pairs, each with all its scenarios and ratios, as those are not
independent. Costs are compared by the ratio of their sums over all cells, paired by cell. The
*best published* policy is the one with the lowest sum over the rows given, so at each ratio it may
be another one.

Shapes: N cells, K frontier points.  Units: dollars, seconds, GPU-seconds; shares 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.agents import stats, tables
from stoker.agents.stats import Interval, MatchedCost
from stoker.agents.tables import Row

UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class References:
    """Whom the others are measured against; None where the rows hold none of that kind."""

    published: str | None
    hazard: str | None
    oracle: str | None
    bound: str | None


@dataclass(frozen=True)
class Score:
    """One line of the score table."""

    policy: str
    kind: str
    cost_usd: Interval
    """Dollars a cell: the mean, or as `how` says."""
    vs_published: Interval
    """Cost as a multiple of the best published policy's."""
    vs_hazard: Interval
    """Cost as a multiple of the tuned hazard index's."""
    gap_closed: Interval
    """Share of the gap from the best published policy to the hazard oracle."""
    regret: Interval
    """Share above the clairvoyant bound."""
    matched: MatchedCost | None
    """Mean dollars a cell at the wanted SLO; None without a frontier of five points."""
    cold_ratio: float
    p50_s: float
    p95_s: float
    p99_s: float
    slo_attainment: float
    cold_s: float
    gpu_s: dict[str, float]
    """GPU-seconds by kind, mean a cell."""


@dataclass(frozen=True)
class Group:
    """Cost ratios within one (scenario, ratio), by policy."""

    known: References
    vs_published: dict[str, Interval]
    vs_hazard: dict[str, Interval]
    """Empty without a hazard index."""


def references(rows: Sequence[Row], how: str = "sum") -> References:
    """Find the opponents and yardsticks among the headline rows; `how` as in `score`."""
    kinds = ("published", "hazard", "oracle", "bound")
    return References(**{kind: _cheapest(rows, kind, how=how) for kind in kinds})


def score(
    rows: Sequence[Row],
    rng: np.random.Generator,
    slo_target: float | None = None,
    how: str = "sum",
) -> list[Score]:
    """Score every policy, the cheapest first.

    Args:
        rows: result rows; the cells of all policies must be the same.
        rng: source of the bootstrap resamples.
        slo_target: attainment at which dollars are matched; None = that of the best published
            policy's headline setting.
        how: of cost ratios: `sum`, or `median` | `geomean` of the cells' ratios where costs are
            heavy-tailed (loads near saturation). There a sum would be one cell's, so costs, ranks,
            regret and gap closed are taken in the same way (the gap in logarithms).
    """
    full = tables.check_rows(rows)
    main = tables.headline(full)
    known = references(main, how)
    if slo_target is None:
        slo_target = default_target(main, known)
    draws = _draws(tables.cells(main), rng)
    lines = [_score(full, name, known, draws, slo_target, how) for name in tables.policies(main)]
    rank = _averages(main, [line.policy for line in lines], how)
    return sorted(lines, key=lambda line: rank[line.policy])


def default_target(rows: Sequence[Row], known: References) -> float:
    """Return the SLO attainment of the best published policy, NaN without one."""
    if known.published is None:
        return float("nan")
    return _weighted(rows, known.published, "slo_attainment", tables.cells(rows))


def by_ratio(
    rows: Sequence[Row], rng: np.random.Generator, how: str = "sum"
) -> dict[tuple[str, float], Group]:
    """Compare the policies within each (scenario, ratio), against the best published there.

    Without a published policy in the rows, the cheapest policy takes its place.
    """
    main = tables.headline(tables.check_rows(rows))
    out = {}
    for group in sorted({tables.cell(row)[:2] for row in main}):
        here = [row for row in main if tables.cell(row)[:2] == group]
        known = references(here, how)
        base = (
            known.published
            or _cheapest(here, *tables.DEPLOYABLE, how=how)
            or str(here[0]["policy"])
        )
        draws = _draws(tables.cells(here), rng)
        costs = {
            name: tables.column(here, name, "total_usd", tables.cells(here))
            for name in tables.policies(here)
        }

        def against(
            other: str | None,
            costs: dict[str, NDArray[np.float64]] = costs,
            draws: stats.Draws = draws,
        ) -> dict[str, Interval]:
            if other is None:
                return {}
            return {
                name: stats.paired_ratio(usd, costs[other], draws, how)
                for name, usd in costs.items()
            }

        out[group] = Group(known, against(base), against(known.hazard))
    return out


def frontier(rows: Sequence[Row], policy: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return SLO attainment and mean dollars a cell of each setting of a policy. Shape: (K,)."""
    at = tables.cells(tables.headline(rows))
    numbers = tables.points(rows, policy)
    attained = [_weighted(rows, policy, "slo_attainment", at, k) for k in numbers]
    usd = [tables.column(rows, policy, "total_usd", at, k).mean() for k in numbers]
    return np.array(attained), np.array(usd)


def as_records(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Return the scores as plain values, ready for JSON (NaN becomes None)."""
    return [_plain(asdict(line)) for line in scores]


def _score(
    rows: Sequence[Row],
    name: str,
    known: References,
    draws: stats.Draws,
    target: float,
    how: str,
) -> Score:
    at = tables.cells(tables.headline(rows))
    usd = tables.column(rows, name, "total_usd", at)

    def against(other: str | None) -> Interval:
        if other is None:
            return UNDEFINED
        return stats.paired_ratio(usd, tables.column(rows, other, "total_usd", at), draws, how)

    gap = UNDEFINED
    if known.published is not None and known.oracle is not None:
        start = tables.column(rows, known.published, "total_usd", at)
        end = tables.column(rows, known.oracle, "total_usd", at)
        costs = (usd, start, end) if how == "sum" else np.log([usd, start, end])
        gap = stats.gap_closed(*costs, draws)
    regret = UNDEFINED
    if known.bound is not None:
        above = against(known.bound)
        regret = Interval(above.value - 1.0, above.low - 1.0, above.high - 1.0)
    plain = {
        key: _weighted(rows, name, key, at)
        for key in ("cold_ratio", "p50_s", "p95_s", "p99_s", "slo_attainment")
    }
    return Score(
        policy=name,
        kind=tables.kind_of(rows, name),
        cost_usd=_average(usd, draws, how),
        vs_published=against(known.published),
        vs_hazard=against(known.hazard),
        gap_closed=gap,
        regret=regret,
        matched=_matched(rows, name, target, draws),
        cold_s=float(tables.column(rows, name, "cold_s", at).mean()),
        gpu_s={k: float(tables.column(rows, name, k, at).mean()) for k in tables.GPU_KINDS},
        **plain,
    )


def _draws(at: Sequence[tables.Cell], rng: np.random.Generator) -> stats.Draws:
    """Resample (trace, seed) pairs; every cell by itself where these are not balanced."""
    units = np.array([f"{trace} {seed}" for _, _, trace, seed in at])
    _, count = np.unique(units, return_counts=True)
    return stats.resample(len(at), rng, units=units if count.min() == count.max() else None)


def _matched(
    rows: Sequence[Row], name: str, target: float, draws: stats.Draws
) -> MatchedCost | None:
    numbers = tables.points(rows, name)
    if len(numbers) < stats.MIN_POINTS or not np.isfinite(target):
        return None
    at = tables.cells(tables.headline(rows))

    def grid(column: str) -> NDArray[np.float64]:
        return np.stack([tables.column(rows, name, column, at, k) for k in numbers], axis=1)

    requests = tables.column(rows, name, "requests", at)
    weights = requests if np.isfinite(requests).all() else None
    cost = stats.matched_cost(grid("slo_attainment"), grid("total_usd"), target, draws, weights)
    n = len(at)
    mean = Interval(cost.usd.value / n, cost.usd.low / n, cost.usd.high / n)
    return MatchedCost(mean, cost.status)


def _weighted(
    rows: Sequence[Row], policy: str, name: str, at: Sequence[tables.Cell], point: int = 0
) -> float:
    """Average a metric over cells by their requests; evenly where these are not given."""
    values = tables.column(rows, policy, name, at, point)
    requests = tables.column(rows, policy, "requests", at, point)
    if not (np.isfinite(requests).all() and requests.sum() > 0.0):
        return float(values.mean())
    return float(np.average(values, weights=requests))


def _cheapest(rows: Sequence[Row], *kinds: str, how: str = "sum") -> str | None:
    names = tables.policies(rows, kinds)
    rank = _averages(rows, names, how)
    return min(names, key=lambda name: rank[name]) if names else None


def _averages(rows: Sequence[Row], names: Sequence[str], how: str) -> dict[str, float]:
    """Return each policy's cost on a scale on which lower is better."""
    at = tables.cells(rows)
    usd = {name: tables.column(rows, name, "total_usd", at) for name in names}
    return {name: float((x if how == "sum" else np.log(x)).mean()) for name, x in usd.items()}


def _average(usd: NDArray[np.float64], draws: stats.Draws, how: str) -> Interval:
    if how != "geomean":
        return stats.mean(usd, draws, "median" if how == "median" else "mean")
    log = stats.mean(np.log(usd), draws)
    return Interval(*np.exp([log.value, log.low, log.high]).tolist())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
