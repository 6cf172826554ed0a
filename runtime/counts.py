"""What the guards around a policy saw.  Units: seconds."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

KEPT_TIMES = 10_000


@dataclass
class GuardCounts:
    """Decisions asked for, and who gave them."""

    decisions: int = 0
    """At ticks."""
    events: int = 0
    """At idle events."""
    fallbacks: Counter[str] = field(default_factory=Counter)
    """By reason: slow, raised, malformed, nan, illegal."""
    last_error: str = ""
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    """Time of each decision that came within the budget."""
