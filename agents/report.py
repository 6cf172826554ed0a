"""The HTML report: one file, no request to anywhere, readable in light and dark.

Headline, score tables, charts, then what the result rests on.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from stoker.agents import plots, scores, tables
from stoker.agents.page import page
from stoker.agents.scores import References, Score
from stoker.agents.wording import (
    RATIO_HEADS,
    Column,
    candidates,
    cost_columns,
    findings,
    ratio_rows,
    service_columns,
)

COMPARED = {
    "sum": "compared by the ratio of their sums",
    "median": "compared by the median of the cells' ratios",
    "geomean": "compared by the geometric mean of the cells' ratios",
}
PACKAGES = ("stoker", "numpy", "numba", "torch", "stable-baselines3", "gymnasium", "onnxruntime")


def write_report(
    path: str | Path,
    rows: Sequence[tables.Row],
    rng: np.random.Generator,
    *,
    title: str = "Stoker evaluation",
    provenance: Mapping[str, Any] | None = None,
    config: str = "",
    slo_target: float | None = None,
    how: str = "sum",
) -> Path:
    """Write the report of an evaluation.

    Args:
        path: the HTML file.
        rows: result rows (see `tables`).
        rng: source of the bootstrap resamples.
        title: heading.
        provenance: what the result rests on: trace source, profile, seeds, budget of the tuning.
        config: the run's configuration as YAML.
        slo_target: attainment at which dollars are matched; None = the best published policy's.
        how: costs are compared by ratio of sums, or by `median` | `geomean` of the cells' ratios.
    """
    full = tables.check_rows(rows)
    main = tables.headline(full)
    known = scores.references(main, how)
    target = scores.default_target(main, known) if slo_target is None else slo_target
    lines = scores.score(full, rng, target, how)
    groups = scores.by_ratio(full, rng, how)
    body = [
        f"<h1>{escape(title)}</h1>",
        _headline(lines, known),
        _tables(lines, known, target, len(tables.cells(main)), how),
        _by_ratio(groups, lines),
        _charts(full, lines, groups, known),
        _provenance(main, dict(provenance or {}), config),
    ]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(title, "\n".join(body)), encoding="utf-8")
    return path


def versions() -> dict[str, str]:
    """Return the versions of what computed the result, and the machine's kind."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _headline(lines: Sequence[Score], known: References) -> str:
    first, *rest = findings(lines, known)
    items = "".join(f"<li>{escape(line)}</li>" for line in rest)
    return f'<section class="lead"><p>{escape(first)}</p><ul>{items}</ul></section>'


def _tables(lines: Sequence[Score], known: References, target: float, cells: int, how: str) -> str:
    return (
        "<section><h2>Scores</h2>"
        f"<p>{cells} cells (scenario, ratio, trace, seed); every policy ran in each of them. "
        "Brackets hold 95 % intervals, from a bootstrap over (trace, seed); costs are "
        f"{COMPARED[how]}, paired by cell. Oracle and bound know the future and are no "
        "candidates.</p>"
        + _table("dollars", cost_columns(known, target), lines)
        + _table("service", service_columns(), [line for line in lines if line.kind != "bound"])
        + '<p class="note">P50, P95, P99: latency, mean over cells. GPU-seconds: mean a cell.</p>'
        + "</section>"
    )


def _by_ratio(groups: plots.Groups, lines: Sequence[Score]) -> str:
    """Set out the candidates at every ratio, where an average could hide a loss."""
    rows = ratio_rows(groups, candidates(lines))
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in RATIO_HEADS)
    body = "".join("<tr>" + "".join(map(_td, row)) + "</tr>" for row in rows)
    return (
        '<section><h2>At each memory ratio</h2><div class="wide"><table class="ratios"><thead>'
        f"<tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _table(name: str, columns: Sequence[Column], lines: Sequence[Score]) -> str:
    head = "".join(f'<th title="{escape(c.note)}">{escape(c.head)}</th>' for c in columns)
    body = "".join(
        f'<tr class="{line.kind}">' + "".join(_td(c.text(line)) for c in columns) + "</tr>"
        for line in lines
    )
    notes = "; ".join(f"<b>{escape(c.head)}</b>: {escape(c.note)}" for c in columns if c.note)
    return (
        f'<div class="wide"><table class="{name}"><thead><tr>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="note">{notes}.</p>'
    )


def _td(text: str) -> str:
    """Set the interval of a figure smaller than the figure."""
    figure, bracket, interval = escape(text).partition(" [")
    small = f" <small>[{interval}</small>" if bracket else ""
    return f"<td>{figure}{small}</td>"


def _charts(
    rows: Sequence[tables.Row],
    lines: Sequence[Score],
    groups: plots.Groups,
    known: References,
) -> str:
    return "\n".join(
        (
            _figure(
                "Cost by memory ratio",
                plots.cost_by_ratio(groups, lines),
                "Each policy's cost against the best published policy at that ratio, with 95 % "
                f"intervals; below zero is cheaper. {_best_named(groups)} {_off_chart(groups)}",
            ),
            _figure(
                "Dollars against SLO",
                plots.cost_against_slo(rows, lines),
                "Every setting of each policy; the large mark is the one in the tables, the line "
                "the lower hull from which dollars at matched SLO are read (no line: one setting "
                "beats the policy's others). Right and down is better.",
            ),
            _figure(
                "Latency", plots.latency(lines), "Arrival to completion, cold starts included."
            ),
            _figure(
                "GPU time",
                plots.gpu_seconds(lines),
                "Busy: a batch runs. Loading: weights or warm-up. Idle: something is resident. "
                "Off: nothing is.",
            ),
        )
    )


def _figure(title: str, svg: str, note: str) -> str:
    return (
        f"<section><h2>{escape(title)}</h2><figure>{svg}"
        f"<figcaption>{escape(note.strip())}</figcaption></figure></section>"
    )


def _best_named(groups: plots.Groups) -> str:
    named: dict[str, list[str]] = {}
    for place, group in groups.items():
        if group.known.published:
            named.setdefault(group.known.published, []).append(_place(place))
    said = "; ".join(f"{name} at {', '.join(places)}" for name, places in named.items())
    return f"Best published: {said}." if said else ""


def _off_chart(groups: plots.Groups) -> str:
    far = [
        f"{name} at {_place(place)} ({cost.value:.1f}x)"
        for place, group in groups.items()
        for name, cost in group.vs_published.items()
        if cost.value > plots.TOP_RATIO
    ]
    return f"Off the chart: {', '.join(far)}." if far else ""


def _place(place: tuple[str, float]) -> str:
    return f"{place[0]} {place[1]:g}"


def _provenance(rows: Sequence[tables.Row], given: dict[str, Any], config: str) -> str:
    facts = {
        **given,
        "traces": sorted({str(row["trace"]) for row in rows}),
        "scenarios": sorted({str(row["scenario"]) for row in rows}),
        "memory ratios": sorted({float(row["ratio"]) for row in rows}),
        "seeds": sorted({int(row["seed"]) for row in rows}),
        "versions": versions(),
    }
    items = "".join(f"<dt>{escape(str(k))}</dt><dd>{_fact(v)}</dd>" for k, v in facts.items())
    shown = f"<details><summary>Configuration</summary><pre>{escape(config)}</pre></details>"
    return (
        f"<section><h2>What this rests on</h2><dl>{items}</dl>{shown if config else ''}</section>"
    )


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(k))} {_fact(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_fact(item) for item in value)
    return escape(value if isinstance(value, str) else json.dumps(value, default=str))
