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
    """By reason: slow, raised, malformed, nan, illegal, stale, unseen, burn, and held: decided by
    the fallback because it still had the helm; fallback_raised: by nobody, what was loaded
    stays; and fallback_slow: the fallback took longer than the policy may, and everybody waited."""
    last_error: str = ""
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    """Time of each decision that came within the budget."""
    mode: str = "active"
    state: str = "closed"
    """closed: the policy steers as its mode says; open: the fallback does; trial: so it does, and
    the policy's next decision counts."""
    reason: str = ""
    """Why the policy lost the helm last."""
    trips: int = 0
    """How often it did."""
    reloads: int = 0
    """Policies taken over while serving."""
    refused_reloads: int = 0
    """Policies that were refused; `last_error` says why."""

    def figures(self) -> dict[str, float]:
        """For metrics and tables, by name."""
        return {
            "decisions": float(self.decisions + self.events),
            "fallbacks": float(self.fallbacks.total()),
            "trips": float(self.trips),
            "on_fallback": float(self.mode == "shadow" or self.state != "closed"),
            "reloads": float(self.reloads),
            "refused_reloads": float(self.refused_reloads),
        } | {f"fallbacks_{reason}": float(n) for reason, n in self.fallbacks.items()}
