"""Progress bars on stderr, so that standard output holds results alone."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining


def bar() -> Progress:
    """Make a progress display of named tasks with a count, time spent and time left."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # Without a terminal all that a transient display leaves is an empty line.
    hidden = not console.is_terminal
    return Progress(
        *columns,
        TimeElapsedColumn(),
        Remaining(),
        console=console,
        transient=True,
        disable=hidden,
    )
