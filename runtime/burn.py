"""SLO burn: how fast late and refused requests use up what was agreed on.

The burn rate is the share of bad requests over the agreed share. As in The Site Reliability
Workbook (Beyer et al., 2018, chapter 5): it alerts when a long window and the twelfth of it that
ended now are both above a threshold, so one burst long past does not count and one request neither;
a fast pair (14.4 over an hour) and a slow pair (6 over six hours).  Units: seconds.
"""

from __future__ import annotations

from collections import deque

PAIRS = ((1.0, 14.4), (6.0, 6.0))
"""Long window over the configured one, and the burn rate from which it alerts."""
SHORT = 1.0 / 12.0
MOST = 0.9
"""Share of bad requests that is too much whatever was agreed on."""
LEAST = 20
"""Requests that a short window must hold: of fewer no share is known."""
BUCKETS = 60


class _Window:
    """Counts of the last while, in buckets."""

    def __init__(self, length_s: float) -> None:
        self._length_s, self._width_s = length_s, length_s / BUCKETS
        self._buckets: deque[list[float]] = deque()
        self.total = self.bad = 0

    def add(self, now_s: float, bad: bool) -> None:
        self.forget(now_s)
        if not self._buckets or now_s >= self._buckets[-1][0] + self._width_s:
            self._buckets.append([now_s, 0, 0])
        self._buckets[-1][1] += 1
        self._buckets[-1][2] += bad
        self.total += 1
        self.bad += bad

    def forget(self, now_s: float) -> None:
        while self._buckets and self._buckets[0][0] < now_s - self._length_s:
            _, total, bad = self._buckets.popleft()
            self.total -= int(total)
            self.bad -= int(bad)

    def share(self) -> float:
        return self.bad / self.total if self.total else 0.0


class Burn:
    """Burn rates over several windows.

    Args:
        budget: share of bad requests that is agreed on.
        window_s: long window of the fast pair.
    """

    def __init__(self, budget: float, window_s: float) -> None:
        self._budget, self._window_s = budget, window_s
        self.clear()

    def clear(self) -> None:
        """Forget: somebody else steers from now on."""
        self._pairs = [
            (_Window(factor * self._window_s), _Window(factor * self._window_s * SHORT), limit)
            for factor, limit in PAIRS
        ]

    def add(self, now_s: float, bad: bool) -> bool:
        """Count one request that has ended; return whether the burn is too fast."""
        alert = False
        for long, short, limit in self._pairs:
            long.add(now_s, bad)
            short.add(now_s, bad)
            most = min(limit * self._budget, MOST)
            alert |= short.total >= LEAST and min(long.share(), short.share()) > most
        return alert
