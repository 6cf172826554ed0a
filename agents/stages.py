"""One line a stage of long work, with the time that it took, and bars while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stoker.agents.progress import bar


class Stages:
    """Stages that follow each other.

    Args:
        count: how many there will be.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @property
    def total_s(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._began

    @contextmanager
    def stage(self, name: str, about: str) -> Iterator[None]:
        """Announce and time a stage."""
        print(f"[{len(self.seconds) + 1}/{self.count}] {name}: {about}", flush=True)
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began
        print(f"      {self.seconds[name]:.1f} s (in all {self.total_s:.0f} s)", flush=True)


@contextmanager
def bars() -> Iterator[Callable[..., None]]:
    """Show progress bars; yields a function that takes `(what, done, total)`."""
    with bar() as shown:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: float, total: float = 1.0) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done)

        yield progress
