"""Scores in words: the columns of the score table and the headline, for terminal and report.

Units: dollars, seconds, GPU-seconds; relative figures in percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stoker.agents import tables
from stoker.agents.scores import Group, References, Score
from stoker.agents.stats import Interval

NONE = "\u2013"
MINUS = "\u2212"
KIND_WORDS = {
    "published": "published",
    "hazard": "hazard",
    "learned": "learned",
    "yours": "yours",
    "oracle": "oracle",
    "bound": "bound",
}


RATIO_HEADS = ("scenario", "ratio", "policy", "vs best published", "vs hazard")


@dataclass(frozen=True)
class Column:
    """A column of the score table."""

    head: str
    text: Callable[[Score], str]
    note: str
    """What the figure means, for the report."""


def number(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, thousands apart."""
    if not math.isfinite(value):
        return NONE
    if value == 0.0:
        return "0"
    if not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - (math.floor(math.log10(abs(value)))))
    return f"{value:,.{min(decimals, 6)}f}".replace("-", MINUS)


def percent(share: float, sign: bool = False, digits: int = 1) -> str:
    """Write a share as a percentage."""
    if not math.isfinite(share):
        return NONE
    text = f"{100.0 * share:{'+' if sign else ''}.{digits}f} %"
    return text.replace("-", MINUS)


def with_interval(interval: Interval, write: Callable[[float], str]) -> str:
    """Write a figure and its interval."""
    if not math.isfinite(interval.value):
        return NONE
    if not math.isfinite(interval.low):
        return f"{write(interval.value)} [not sure]"
    low, high = (write(end).removesuffix(" %") for end in (interval.low, interval.high))
    return f"{write(interval.value)} [{low}, {high}]"


def change(ratio: Interval) -> str:
    """Write a cost ratio as the change against the reference."""
    moved = Interval(ratio.value - 1.0, ratio.low - 1.0, ratio.high - 1.0)
    return with_interval(moved, lambda share: percent(share, sign=True))


def cost_columns(known: References, slo_target: float) -> list[Column]:
    """Return the columns about dollars."""
    return [
        Column("policy", lambda s: s.policy, ""),
        Column("kind", lambda s: KIND_WORDS[s.kind], ""),
        Column("cost $", lambda s: with_interval(s.cost_usd, number), "dollars a cell, on average"),
        Column(
            "vs best published",
            lambda s: NONE if s.policy == known.published else change(s.vs_published),
            f"against {known.published or 'none'}, paired by cell; below zero is cheaper",
        ),
        Column(
            "vs hazard",
            lambda s: NONE if s.policy == known.hazard else change(s.vs_hazard),
            f"against {known.hazard or 'none'}, paired by cell",
        ),
        Column(
            "gap closed",
            lambda s: _gap(s, known),
            f"share of the way from {known.published or 'none'} to {known.oracle or 'none'}",
        ),
        Column(
            "regret",
            lambda s: NONE if s.policy == known.bound else with_interval(s.regret, _far),
            f"cost above {known.bound or 'no bound'}",
        ),
        Column(
            f"$ at SLO {percent(slo_target)}",
            matched,
            "mean dollars a cell at that SLO attainment, interpolated on the policy's frontier; "
            "\u2264: its cheapest setting attains more",
        ),
    ]


def service_columns() -> list[Column]:
    """Return the columns about latency, cold starts and GPU-seconds."""
    heads = {"gpu_busy_s": "busy", "gpu_loading_s": "loading", "gpu_idle_s": "idle"}
    return [
        Column("policy", lambda s: s.policy, ""),
        Column("cold", lambda s: percent(s.cold_ratio), "share of requests that started cold"),
        Column("cold s", lambda s: number(s.cold_s), "seconds waited for cold starts, mean a cell"),
        Column("P50 s", lambda s: number(s.p50_s), ""),
        Column("P95 s", lambda s: number(s.p95_s), ""),
        Column("P99 s", lambda s: number(s.p99_s), ""),
        Column("SLO", lambda s: percent(s.slo_attainment), "requests in time; drops are misses"),
        *(
            Column(f"{head} GPU-s", lambda s, key=key: number(s.gpu_s[key]), "")
            for key, head in (heads | {"gpu_off_s": "off"}).items()
        ),
    ]


def _far(share: float) -> str:
    """Write a share, without decimals where it is large."""
    return percent(share, digits=0 if abs(share) >= 1.0 else 1)


def _gap(score: Score, known: References) -> str:
    if score.policy == known.published or score.kind == "bound":
        return NONE
    return with_interval(score.gap_closed, lambda share: percent(share, digits=0))


def matched(score: Score) -> str:
    """Write the dollars at matched SLO, or why there are none."""
    if score.matched is None:
        return NONE
    if score.matched.status == "not reached":
        return "not reached"
    text = with_interval(score.matched.usd, number)
    return f"≤ {text}" if score.matched.status == "exceeded" else text


def verdict(name: str, ratio: Interval, other: str) -> str:
    """Say how the cost of one policy compares with another's, and whether that is sure."""
    moved = abs(ratio.value - 1.0)
    if not math.isfinite(ratio.value):
        return f"{name} cannot be compared with {other}."
    if not ratio.excludes(1.0):
        return f"{name} is not surely different from {other}: {change(ratio)}."
    ends = sorted((abs(ratio.low - 1.0), abs(ratio.high - 1.0)))
    how = "less" if ratio.value < 1.0 else "more"
    low, high = (percent(end).removesuffix(" %") for end in ends)
    return f"{name} costs {percent(moved)} {how} than {other} (95 % interval {low} to {high} %)."


def findings(scores: Sequence[Score], known: References) -> list[str]:
    """State the result as it is, the winner first."""
    field = [score for score in scores if score.kind in tables.DEPLOYABLE]
    if not field:
        return ["No policy that could be deployed was judged."]
    best = field[0]
    kind = "" if best.policy == KIND_WORDS[best.kind] else f" ({KIND_WORDS[best.kind]})"
    lines = [
        f"{best.policy}{kind} has the lowest cost of the {len(field)} policies "
        f"that could be deployed: ${with_interval(best.cost_usd, number)} a cell"
        f"{_doubt(best, known)}."
    ]
    subjects = [best] + [s for s in field[1:] if s.kind in ("learned", "yours")]
    for subject in subjects:
        if subject is not best:
            lines.append(f"{subject.policy} ranks {field.index(subject) + 1} of {len(field)}.")
        if known.published not in (None, subject.policy):
            other = f"the best published policy, {known.published}"
            lines.append(verdict(subject.policy, subject.vs_published, other))
        if known.hazard not in (None, subject.policy):
            other = f"the tuned hazard index, {known.hazard}"
            lines.append(verdict(subject.policy, subject.vs_hazard, other))
    lines += [_below(score) for score in field if score.regret.value < 0.0]
    return lines


def _doubt(best: Score, known: References) -> str:
    """Say so where the lead over an opponent may be chance."""
    against = ((known.hazard, best.vs_hazard), (known.published, best.vs_published))
    close = [
        name
        for name, ratio in against
        if name not in (None, best.policy) and not ratio.excludes(1.0)
    ]
    return f", but not surely lower than {' or '.join(map(str, close))}" if close else ""


def ratio_rows(groups: Mapping[tuple[str, float], Group], names: Sequence[str]) -> list[list[str]]:
    """Return scenario, ratio, policy, cost against the best published and against the hazard."""
    rows = []
    for (scenario, ratio), group in groups.items():
        for name in names:
            published = f"{change(group.vs_published[name])} ({group.known.published})"
            hazard = change(group.vs_hazard[name]) if group.vs_hazard else NONE
            if name == group.known.hazard:
                hazard = NONE
            if group.known.published in (None, name):
                published = NONE
            rows.append([scenario, f"{ratio:g}", name, published, hazard])
    return rows


def candidates(scores: Sequence[Score]) -> list[str]:
    """Return the policies whose cost at every ratio is of interest."""
    return [score.policy for score in scores if score.kind in ("learned", "yours", "hazard")]


def _below(score: Score) -> str:
    return (
        f"Warning: {score.policy} lies below the bound ({percent(score.regret.value)}): "
        "the bound or the bill is wrong."
    )
