"""The rhythm of a policy: it is asked at the start and then every `tick_s`.  Units: seconds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.runtime.clock import Clock, Timer
from stoker.runtime.guard import Guard


class Ticks:
    """Asks the policy behind a guard, one question at a time, late ones at once.

    Args:
        guard: around the policy.
        clock: of the controller.
        look: returns what the policy sees now; None = nothing is served any more.
        obey: carries a decision out.
    """

    def __init__(
        self,
        guard: Guard,
        clock: Clock,
        look: Callable[[], Snapshot | None],
        obey: Callable[[Decision], None],
    ) -> None:
        self._guard, self._clock = guard, clock
        self._look, self._obey = look, obey
        self._timer: Timer | None = None
        self._deciding: asyncio.Task[None] | None = None
        self._due_s = 0.0
        self._stopped = False

    async def ask(self) -> None:
        """Have the policy decide now, and set the next tick."""
        snapshot = self._look()
        if snapshot is None:
            return
        self._obey(await self._guard.decide(snapshot))
        tick_s = self._guard.policy.tick_s
        if math.isfinite(tick_s) and not self._stopped:
            self._due_s = max(self._due_s + tick_s, self._clock.now())
            self._timer = self._clock.call_at(self._due_s, self._next)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._deciding is not None:
            self._deciding.cancel()

    def _next(self) -> None:
        self._timer = None
        self._deciding = asyncio.get_running_loop().create_task(self.ask())
