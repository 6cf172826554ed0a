"""The score table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stoker.agents.scores import Group, References, Score
from stoker.agents.wording import (
    RATIO_HEADS,
    Column,
    candidates,
    cost_columns,
    findings,
    ratio_rows,
    service_columns,
)

LEAD = ("policy", "kind")
WIDE = 180
"""Characters, where there is no terminal."""
GUTTER = 3
"""Characters that a column takes besides its text."""
STYLES = {"learned": "bold", "oracle": "dim", "bound": "dim"}


def score_tables(
    scores: Sequence[Score], known: References, slo_target: float, width: int = WIDE
) -> list[Table]:
    """Lay out the scores, the cheapest policy first: dollars, then service.

    Args:
        scores: of `scores.score`.
        known: whom they are measured against.
        slo_target: attainment at which dollars are matched.
        width: of the terminal; columns that do not fit go into a table below, with the policy.
    """
    served = [score for score in scores if score.kind != "bound"]
    dollars = "Dollars (95 % bootstrap intervals, paired by cell)"
    return [
        *_tables(dollars, cost_columns(known, slo_target), scores, width),
        *_tables("Service", service_columns(), served, width),
    ]


def _tables(
    title: str, columns: Sequence[Column], scores: Sequence[Score], width: int
) -> list[Table]:
    """Lay out columns in as many tables as the width asks for."""
    name, *rest = columns
    parts: list[list[Column]] = [[name]]
    for column in rest:
        if len(parts[-1]) > 1 and _width([*parts[-1], column], scores) > width:
            parts.append([name])
        parts[-1].append(column)
    out = []
    for part in parts:
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        title = ""
        for column in part:
            left = column.head in LEAD
            table.add_column(column.head, justify="left" if left else "right", no_wrap=True)
        for score in scores:
            table.add_row(*(column.text(score) for column in part), style=STYLES.get(score.kind))
        out.append(table)
    return out


def _width(columns: Sequence[Column], scores: Sequence[Score]) -> int:
    """Return how many characters a table of these columns takes."""
    cells = [[column.head, *map(column.text, scores)] for column in columns]
    return sum(max(map(len, column)) + GUTTER for column in cells)


def ratio_table(scores: Sequence[Score], groups: Mapping[tuple[str, float], Group]) -> Table:
    """Lay out the candidates at every memory ratio."""
    table = Table(title="At each memory ratio", title_justify="left", box=SIMPLE_HEAD)
    for at, head in enumerate(RATIO_HEADS):
        table.add_column(head, justify="right" if at in (1, 3, 4) else "left")
    for row in ratio_rows(groups, candidates(scores)):
        table.add_row(*row)
    return table


def print_scores(
    scores: Sequence[Score],
    known: References,
    slo_target: float,
    console: Console | None = None,
    groups: Mapping[tuple[str, float], Group] | None = None,
) -> None:
    """Print the findings and the tables; wide enough for a file where there is no terminal.

    Args:
        scores: of `scores.score`.
        known: whom they are measured against.
        slo_target: attainment at which dollars are matched.
        console: where to; standard output if not given.
        groups: of `scores.by_ratio`; adds the candidates at each ratio.
    """
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=WIDE)
    for line in findings(scores, known):
        console.print(line, highlight=False, markup=False)
    shown = score_tables(scores, known, slo_target, console.width)
    if groups:
        shown.append(ratio_table(scores, groups))
    for table in shown:
        console.print()
        console.print(table)
