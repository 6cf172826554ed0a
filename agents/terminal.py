"""The score table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stoker.agents.scores import References, Score
from stoker.agents.wording import cost_columns, findings, service_columns

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


def print_scores(
    scores: Sequence[Score],
    known: References,
    slo_target: float,
    console: Console | None = None,
) -> None:
    """Print the findings and the tables; wide enough for a file where there is no terminal."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=180)
    for line in findings(scores, known):
        console.print(line, highlight=False, markup=False)
    for table in score_tables(scores, known, slo_target):
        console.print()
        console.print(table)
