"""A circuit breaker with hysteresis: who has failed stays out for a while, then is tried again.

Faults in a row open it; after the hold one trial is let through, which closes it or opens it again
for twice as long. The hold is forgotten once the breaker has stayed closed for as long as it last
held.  Units: seconds.
"""

from __future__ import annotations

CLOSED, OPEN, TRIAL = "closed", "open", "trial"


class Breaker:
    """State machine; knows no clock of its own.

    Args:
        hold_s: first hold.
        longest_hold_s: holds do not double beyond it.
        strikes: faults in a row that open it.
    """

    def __init__(self, hold_s: float, longest_hold_s: float, strikes: int) -> None:
        self.state = CLOSED
        self.reason = ""
        """Why it opened last."""
        self.trips = 0
        self._first_s, self._longest_s, self._strikes = hold_s, longest_hold_s, strikes
        self._hold_s = 0.0
        self._until_s = self._closed_s = 0.0
        self._faults = 0

    @property
    def closed(self) -> bool:
        """Whether all goes its way."""
        return self.state == CLOSED

    def lets_through(self, now_s: float) -> bool:
        """Whether the one behind it may be asked; after the hold this begins the trial."""
        if self.state == OPEN and now_s >= self._until_s:
            self.state = TRIAL
        return self.state != OPEN

    def good(self, now_s: float) -> None:
        """It did what it should."""
        self._faults = 0
        if self.state == TRIAL:
            self.state, self._closed_s = CLOSED, now_s
        elif self.state == CLOSED and now_s - self._closed_s >= self._hold_s:
            self._hold_s = 0.0

    def bad(self, now_s: float, reason: str) -> None:
        """It failed once."""
        self._faults += 1
        if self.state == TRIAL or self._faults >= self._strikes:
            self.trip(now_s, reason)

    def trip(self, now_s: float, reason: str) -> None:
        """Open at once; does nothing while it is open."""
        if self.state == OPEN:
            return
        self._hold_s = min(2.0 * self._hold_s or self._first_s, self._longest_s)
        self._until_s = now_s + self._hold_s
        self.state, self.reason, self._faults = OPEN, reason, 0
        self.trips += 1
