"""One measured figure and its budget."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A median over runs."""

    part: str
    name: str
    value: float
    unit: str
    budget: float | None = None
    """None = for information."""
    more_is_better: bool = True
    note: str = ""
    met: bool | None = None

    def __post_init__(self) -> None:
        if self.budget is not None:
            ok = self.value >= self.budget if self.more_is_better else self.value <= self.budget
            object.__setattr__(self, "met", bool(ok))


def cpu_seconds(run: Callable[[], object], repeats: int) -> float:
    """Return the median CPU time of a run in seconds, after one run that is not counted."""
    run()
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return statistics.median(taken)
