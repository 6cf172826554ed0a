"""The controller: one asyncio loop owns all state, tells the planner facts, carries out effects.

Every request ends: with an answer, or with RequestFailed and the reason.  Units: seconds.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.runtime.backend import Backend
from stoker.runtime.clock import Clock, RealClock, Timer
from stoker.runtime.controller_settings import ControllerSettings
from stoker.runtime.effector import Effector
from stoker.runtime.guard import Guard
from stoker.runtime.helm import Helm
from stoker.runtime.keeper import Keeper
from stoker.runtime.planner import Planner
from stoker.runtime.reload import reload
from stoker.runtime.requests import Answer, OpenRequests, PendingRequest, Statistics

CLOSING = "the runtime is closing"


class Controller:
    """Serves functions by name or index.

    Args:
        planner: the engine in live mode, or a stand-in.
        backend: carries out what it wants.
        names: of the functions.
        guard: around the policy; None = the planner's own defaults stand.
        clock: real unless a test brings its own.
        settings: of queues and deadlines.
        keeper: recalled at the start, saved to while it serves; None = each life begins afresh.
    """

    def __init__(
        self,
        planner: Planner,
        backend: Backend,
        names: Sequence[str],
        guard: Guard | None = None,
        clock: Clock | None = None,
        settings: ControllerSettings | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.planner = planner
        self.backend = backend
        self.names = tuple(names)
        self.guard = guard
        self.clock: Clock = clock if clock is not None else RealClock()
        self.settings = settings or ControllerSettings()
        self.statistics = Statistics()
        self._index = {name: fn for fn, name in enumerate(self.names)}
        ended = guard.ended if guard is not None else lambda fn, latency_s: None
        self._open = OpenRequests(self.names, self.statistics, ended)
        self._effector = Effector(
            planner, backend, self.clock, self._open, self.statistics, self._tell
        )
        self._timer: Timer | None = None
        self._due_s = math.inf
        self._helm = Helm(guard, planner, self.clock, self._tell) if guard else None
        self._keeper = keeper
        self._saving: Timer | None = None
        self._writing: asyncio.Future[None] | None = None
        self._closed = False
        self.fault: Exception | None = None
        """What the planner raised, if it did; the controller then serves no more."""

    async def start(self, start_backend: bool = True) -> None:
        """Recall what was known, start the backend, ask the policy once, and begin to tick.

        Raises:
            SpecError: what the keeper has is damaged.
        """
        if self._keeper is not None:
            self._keeper.restore(self.planner)
        self.backend.on_lost = self._effector.lost
        if start_backend:
            await self.backend.start()
        if self._keeper is not None:
            self._saving = self.clock.call_at(
                self.clock.now() + self._keeper.every_s, self._save_again
            )
        if self._helm is not None:
            await self._helm.ask()

    async def close(self) -> None:
        """Fail what is still open, then stop the backend."""
        self._closed = self._effector.closed = True
        for timer in (self._timer, self._saving):
            if timer is not None:
                timer.cancel()
        if self._helm is not None:
            self._helm.stop()
        if self._keeper is not None and self.fault is None:
            if self._writing is not None:
                await asyncio.wait([self._writing])
            self._keeper.save(self.planner.remember(self.clock.now()))
        self._open.fail_all(CLOSING)
        await self.backend.close()

    def _save_again(self) -> None:
        if self._keeper is None or self._closed:
            return
        if self._writing is None or self._writing.done():
            save, memory = self._keeper.save, self.planner.remember(self.clock.now())
            self._writing = asyncio.get_running_loop().run_in_executor(None, save, memory)
        self._saving = self.clock.call_at(self.clock.now() + self._keeper.every_s, self._save_again)

    # REQUESTS

    def request(
        self,
        function: str | int,
        payload: Any,
        service_hint: float | None = None,
        deadline_s: float | None = None,
        on_token: Callable[[int, str], None] | None = None,
    ) -> asyncio.Future[Answer]:
        """Take in one request; the future ends with its Answer or with RequestFailed.

        Whoever cancels the future takes the request back: it leaves its queue, or a decoder stops
        at its next token, or its answer is thrown away.

        Args:
            function: by name or index.
            payload: for the model.
            service_hint: time that it is expected to take.
            deadline_s: it may wait so long; None = the settings' time.
            on_token: called with each token of a decoder and the text that it completes
                (streams.py makes an iterator of it).

        Raises:
            SpecError: no such function.
        """
        fn = self._index.get(function, -1) if isinstance(function, str) else function
        if not 0 <= fn < len(self.names):
            raise SpecError("request.function", function, " | ".join(self.names))
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.statistics.counts["requests"] += 1
        now = self.clock.now()
        request = PendingRequest(fn, payload, now, future, on_token=on_token)
        if self._closed:
            self._open.refuse(request, CLOSING, "failed")
            return future
        limit = self.settings.queue_limit
        if limit is not None and self._open.waiting(fn) >= limit:
            self._open.refuse(request, f"{limit} requests wait already", "overflow")
            return future
        try:
            number = self.planner.arrive(now, fn, service_hint)
        except Exception as error:
            self._collapse(error)
            raise
        self._open.add(number, request)
        wait_s = self.settings.deadline_s if deadline_s is None else deadline_s
        if math.isfinite(wait_s):
            request.alarm = self.clock.call_at(now + wait_s, lambda: self._expire(number, wait_s))
        future.add_done_callback(
            lambda done: self._gone(number, request) if done.cancelled() else None
        )
        self._tell()
        return future

    def _expire(self, number: int, wait_s: float) -> None:
        if number in self._open and not self._open[number].started:
            self._tell(self.planner.cancel, number)
            self._open.fail(number, f"no answer could begin within {wait_s:g} s", "expired")

    def _gone(self, number: int, request: PendingRequest) -> None:
        """The client went away. The planner may have given the number to another since."""
        if self._open.holds(number, request) and not request.started:
            self._tell(self.planner.cancel, number)
            self._open.fail(number, "taken back", "cancelled")

    @property
    def open_requests(self) -> int:
        """Requests that have not ended."""
        return len(self._open)

    # FACTS

    def _tell(self, fact: Callable[..., object] | None = None, *details: Any) -> None:
        """Tell the planner a fact, carry out what it wants then, and set its next alarm."""
        if self._closed:
            return
        if self.guard is not None:
            self.guard.lagged(self.clock.now() - self._due_s)
        try:
            if fact is not None:
                fact(self.clock.now(), *details)
            if self._helm is not None:
                self._helm.follow()
            self._pump()
        except Exception as error:
            self._collapse(error)

    def _collapse(self, error: Exception) -> None:
        """The planner itself has failed, so nothing can be served: answer everybody."""
        self._closed = self._effector.closed = True
        self.fault = error
        self._open.fail_all(f"the planner failed: {type(error).__name__}: {error}")

    def _pump(self) -> None:
        for effect in self.planner.effects():
            self._effector.carry_out(effect)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due_s = self.planner.next_timer()
        if math.isfinite(self._due_s):
            self._timer = self.clock.call_at(self._due_s, self._alarm)

    def _alarm(self) -> None:
        self._timer = None
        self._tell(self.planner.advance)

    # POLICY

    def order(self, decision: Decision) -> None:
        """Take over standing orders of somebody who decides from outside, without a guard."""
        self._tell(self._obey, decision)

    def _obey(self, t: float, decision: Decision) -> None:
        self.planner.advance(t)
        self.planner.apply(decision)

    def look(self) -> Snapshot:
        """Return what a policy would see now."""
        self._tell(self.planner.advance)
        return self.planner.snapshot()

    async def reload(self, make: Callable[[], Policy]) -> None:
        """Put another policy in the place of the one that is guarded.

        Raises:
            SpecError: it does not do, and the old one goes on; or nothing is guarded.
        """
        if self.guard is None:
            raise SpecError("policy", None, "a controller with a guard")
        await reload(self.guard, make, self.planner.snapshot())
        self._tell()

    async def settled(self) -> None:
        """Wait until no decision of the policy is under way."""
        if self._helm is not None:
            await self._helm.settled()
