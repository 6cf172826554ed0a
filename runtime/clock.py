"""The controller's only source of time: real, or virtual so that a scenario runs in no time.

Units: seconds since the clock was made.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol


class Timer(Protocol):
    """A callback to come."""

    def cancel(self) -> None:
        """Never call back."""


class Clock(Protocol):
    """Time, and callbacks at a time."""

    def now(self) -> float:
        """Return the present."""

    def call_at(self, at_s: float, callback: Callable[[], None]) -> Timer:
        """Call back at a time, or soon if it has passed."""


class RealClock:
    """The machine's monotonic clock: it never jumps, whatever happens to the date."""

    def __init__(self) -> None:
        self._origin = time.monotonic()

    def now(self) -> float:
        """Return the present."""
        return time.monotonic() - self._origin

    def call_at(self, at_s: float, callback: Callable[[], None]) -> Timer:
        """Call back on the running asyncio loop."""
        delay_s = max(at_s - self.now(), 0.0)
        return asyncio.get_running_loop().call_later(delay_s, callback)


class Backoff:
    """Pauses after failures in a row, a key each: they double from the first to the last."""

    def __init__(self, first_s: float, last_s: float) -> None:
        self._first_s, self._last_s = first_s, last_s
        self._pause_s: dict[int, float] = {}
        self._until_s: dict[int, float] = {}

    def failed(self, key: int, now_s: float) -> None:
        """Note a failure: the next try waits."""
        pause_s = min(2.0 * self._pause_s.get(key, self._first_s / 2.0), self._last_s)
        self._pause_s[key], self._until_s[key] = pause_s, now_s + pause_s

    def succeeded(self, key: int) -> None:
        """Forget the failures."""
        self._pause_s.pop(key, None)
        self._until_s.pop(key, None)

    def until_s(self, key: int) -> float:
        """Return when the next try may begin."""
        return self._until_s.get(key, 0.0)


class _VirtualTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """Time that moves only by `run_until` and `stall`; ties in the order in which they were set."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._sequence = count()
        self._timers: list[tuple[float, int, _VirtualTimer]] = []

    def now(self) -> float:
        """Return the present."""
        return self._now_s

    def call_at(self, at_s: float, callback: Callable[[], None]) -> Timer:
        """Call back when virtual time reaches `at_s`."""
        timer = _VirtualTimer(callback)
        heapq.heappush(self._timers, (max(at_s, self._now_s), next(self._sequence), timer))
        return timer

    def stall(self, seconds: float) -> None:
        """Let time pass while nothing happens, as if the process had been stopped."""
        self._now_s += seconds

    async def run_until(self, end_s: float) -> None:
        """Let time pass, and whatever becomes due in it happen."""
        await _settle()
        while self._timers and self._timers[0][0] <= end_s:
            at_s, _, timer = heapq.heappop(self._timers)
            self._now_s = max(self._now_s, at_s)
            if timer.callback is not None:
                timer.callback()
            await _settle()
        if math.isfinite(end_s):
            self._now_s = max(self._now_s, end_s)


async def _settle() -> None:
    """Give tasks and callbacks that are ready a few turns of the loop."""
    for _ in range(6):
        await asyncio.sleep(0)
