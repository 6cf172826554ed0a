"""Carries the helm over: the guard's decisions, and its rules, to the planner at their times.

The policy behind the guard is asked at the start and then every `tick_s`.  Units: seconds.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import fields

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.spec import Rules
from stoker.runtime.clock import Clock, Timer
from stoker.runtime.guard import Guard
from stoker.runtime.planner import Planner

Tell = Callable[..., None]
"""Called with what to do to the planner at a time, and its details."""


class Helm:
    """Asks the guard, one question at a time, late ones at once.

    Args:
        guard: around the policy.
        planner: that obeys.
        clock: of the controller.
        tell: the controller's: tells the planner a fact and carries out what it wants then.
    """

    def __init__(self, guard: Guard, planner: Planner, clock: Clock, tell: Tell) -> None:
        self._guard, self._planner, self._clock, self._tell = guard, planner, clock, tell
        self._in_force: Rules | None = None
        self._begun = False
        self._timer: Timer | None = None
        self._deciding: asyncio.Task[None] | None = None
        self._due_s = 0.0
        self._stopped = False
        guard.attend(planner, clock)

    async def ask(self) -> None:
        """Have the guard decide now, and set the next tick."""
        self._tell(self._planner.advance)
        if self._stopped:
            return
        decision = await self._guard.decide(self._planner.snapshot())
        self._begun = True
        if decision is not None:
            self._tell(self._obey, decision)
        tick_s = self._guard.tick_s
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

    async def settled(self) -> None:
        """Wait until no decision is under way."""
        if self._deciding is not None:
            await asyncio.wait([self._deciding])

    def follow(self) -> None:
        """If the helm has changed hands since: the other's rules, and its orders."""
        if not self._begun:
            return
        self._put_in_force()
        if self._guard.changed:
            self._planner.apply(self._guard.orders(self._planner.snapshot()))

    def _put_in_force(self) -> None:
        rules = self._guard.rules
        if rules is not self._in_force:
            self._planner.follow(rules)
            self._in_force = rules

    def _obey(self, t: float, decision: Decision) -> None:
        self._planner.advance(t)
        self._put_in_force()
        if any(getattr(decision, f.name) is not None for f in fields(Decision)):
            self._planner.apply(decision)

    def _next(self) -> None:
        self._timer = None
        self._guard.lagged(self._clock.now() - self._due_s)
        self._deciding = asyncio.get_running_loop().create_task(self.ask())
