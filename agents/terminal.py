"""The score table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stoker.agents.scores import Group, References, Score
from stoker.agents.wording import (
    RATIO_HEADS,
    candidates,
    cost_columns,
    findings,
    ratio_rows,
    service_columns,
)

LEAD = ("policy", "kind")
STYLES = {"learned": "bold", "oracle": "dim", "bound": "dim"}


def score_tables(scores: Sequence[Score], known: References, slo_target: float) -> list[Table]:
    """Lay out the scores, the cheapest policy first: dollars, then service."""
    service = service_columns()
    titles = ("Dollars (95 % bootstrap intervals, paired by cell)", "Service")
    out = []
    for title, shown in zip(titles, (cost_columns(known, slo_target), service), strict=True):
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for column in shown:
            left = column.head in LEAD
            table.add_column(column.head, justify="left" if left else "right", no_wrap=left)
        for score in scores:
            if shown is service and score.kind == "bound":
                continue
            table.add_row(*(column.text(score) for column in shown), style=STYLES.get(score.kind))
        out.append(table)
    return out


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
        console = Console(file=console.file, width=180)
    for line in findings(scores, known):
        console.print(line, highlight=False, markup=False)
    shown = score_tables(scores, known, slo_target)
    if groups:
        shown.append(ratio_table(scores, groups))
    for table in shown:
        console.print()
        console.print(table)
