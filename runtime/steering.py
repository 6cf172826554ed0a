"""Who is at the helm, the policy or its fallback, of which functions and why.

Shapes: F functions, N decisions.  Units: seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stoker.runtime.breaker import Breaker
from stoker.runtime.burn import Burn
from stoker.runtime.clock import Clock
from stoker.runtime.counts import GuardCounts
from stoker.runtime.guard_settings import ACTIVE, CANARY, SHADOW, GuardSettings

Mask = NDArray[np.bool_]
HELD = "held"
"""The reason where the fallback still has the helm."""


def drawn(names: Sequence[str], share: float, seed: int) -> Mask:
    """Draw a share of the functions by name, so that each machine draws the same. Shape: (F,)"""
    digests = [hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8] for name in names]
    points = np.array([int.from_bytes(digest, "big") for digest in digests], np.float64)
    mask: Mask = points < share * 2.0**64
    return mask


class Steering:
    """The state that the guards of ticks and of events share.

    Args:
        settings: of the guard.
        names: of the functions.
        strikes: faults in a row that cost the policy the helm.
        clock: of the controller.
    """

    def __init__(
        self, settings: GuardSettings, names: Sequence[str], strikes: int, clock: Clock
    ) -> None:
        self.settings, self.clock = settings, clock
        self.counts = GuardCounts(mode=settings.mode)
        share = {SHADOW: 0.0, CANARY: settings.canary_share, ACTIVE: 1.0}[settings.mode]
        self.chosen = drawn(names, share, settings.seed)
        """Functions that the policy steers while nothing is wrong. Shape: (F,)"""
        self._breaker = Breaker(settings.hold_s, settings.longest_hold_s, strikes)
        self._burn: Burn | None = None
        if settings.slo_budget is not None:
            self._burn = Burn(settings.slo_budget, settings.burn_window_s)

    @property
    def shadow(self) -> bool:
        """Whether the policy is only listened to."""
        return self.settings.mode == SHADOW

    @property
    def canary(self) -> bool:
        """Whether the policy steers a share of the functions."""
        return self.settings.mode == CANARY

    @property
    def steers(self) -> bool:
        """Whether the policy steers anything now."""
        return self._breaker.closed and not self.shadow

    def refusal(self) -> str:
        """Why the policy is not to be asked now; empty if it is."""
        if self._breaker.lets_through(self.clock.now()):
            return ""
        self.counts.fallbacks[HELD] += 1
        return HELD

    def good(self) -> None:
        """The policy gave a usable decision in time."""
        before = self._breaker.closed
        self._breaker.good(self.clock.now())
        if self._burn is not None and not before and self._breaker.closed:
            self._burn.clear()
        self._show()

    def bad(self, reason: str) -> None:
        """The policy gave none."""
        self.counts.fallbacks[reason] += 1
        self._breaker.bad(self.clock.now(), reason)
        self._show()

    def trip(self, reason: str) -> None:
        """The policy loses the helm at once, whatever it says."""
        self.counts.fallbacks[reason] += 1
        self._breaker.trip(self.clock.now(), reason)
        self._show()

    def ended(self, fn: int, bad: bool) -> None:
        """A request of fn has ended, late or refused (`bad`) or well."""
        if self._burn is None or not (self.steers and self.chosen[fn]):
            return
        if self._burn.add(self.clock.now(), bad):
            self._burn.clear()
            self.trip("burn")

    def _show(self) -> None:
        self.counts.state, self.counts.reason = self._breaker.state, self._breaker.reason
        self.counts.trips = self._breaker.trips
