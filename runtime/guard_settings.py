"""How far a policy is trusted: its mode, its budgets, when it loses the helm and for how long.

Units: seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stoker.envs.cluster.errors import require

SHADOW, CANARY, ACTIVE = "shadow", "canary", "active"
MODES = (SHADOW, CANARY, ACTIVE)


@dataclass(frozen=True)
class GuardSettings:
    """Settings of a Guard.

    Raises:
        SpecError: a value is out of its range.
    """

    mode: str = ACTIVE
    """active: the policy steers. canary: it steers a share of the functions, the fallback the
    others. shadow: the fallback steers, the policy is asked and its answers are logged."""
    canary_share: float = 0.1
    """Share of the functions, by a hash of their names."""
    seed: int = 0
    """Of that hash."""
    budget_s: float = 0.1
    """Time for one decision at a tick."""
    first_budget_s: float = 10.0
    """Time for the first, before anything is served: the policy may load or compile."""
    event_budget_s: float = 0.02
    """Time for one decision of an event policy; the planner waits for it."""
    max_age_s: float = 60.0
    """Older figures, or a loop that stood still for longer: stale."""
    max_unseen: float = 0.2
    """Share of an observation's columns that may lie outside the range seen in training."""
    slo_budget: float | None = None
    """Share of late or refused requests that is agreed on; None = SLO burn is not watched."""
    burn_window_s: float = 3600.0
    """Longest window of the fast alert; see burn.py."""
    hold_s: float = 10.0
    """The fallback keeps the helm so long, then the policy is tried again; doubles each time."""
    longest_hold_s: float = 600.0

    def __post_init__(self) -> None:
        require(self.mode in MODES, "guard.mode", self.mode, " | ".join(MODES))
        for name in ("budget_s", "first_budget_s", "event_budget_s", "max_age_s", "burn_window_s"):
            value = getattr(self, name)
            require(value > 0.0, f"guard.{name}", value, "a time > 0")
        for name in ("canary_share", "max_unseen"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"guard.{name}", value, "a share in [0, 1]")
        if self.slo_budget is not None:
            share = 0.0 < self.slo_budget < 1.0
            require(share, "guard.slo_budget", self.slo_budget, "a share in (0, 1), or null")
        finite = 0.0 <= self.hold_s < math.inf
        require(finite, "guard.hold_s", self.hold_s, "a time >= 0")
        longer = self.hold_s <= self.longest_hold_s < math.inf
        accepted = f"a time >= hold_s ({self.hold_s:g})"
        require(longer, "guard.longest_hold_s", self.longest_hold_s, accepted)
