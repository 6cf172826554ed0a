"""The controller: one asyncio loop owns all state, tells the planner facts, carries out effects.

Every request ends: with an answer, or with RequestFailed and the reason.  Units: seconds.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.live_effects import Drop, DropHost, Effect, FetchHost, Load, Reject, Run
from stoker.runtime.backend import Backend
from stoker.runtime.clock import Backoff, Clock, RealClock, Timer
from stoker.runtime.guard import Guard
from stoker.runtime.messages import Reply
from stoker.runtime.planner import Planner
from stoker.runtime.process import OrderFailed, WorkerDied
from stoker.runtime.requests import Answer, OpenRequests, PendingRequest, RequestFailed, Statistics
from stoker.runtime.ticks import Ticks

CLOSING = "the runtime is closing"
FIRST_BACKOFF_S = 0.05
LAST_BACKOFF_S = 2.0


class Controller:
    """Serves functions by name or index.

    Args:
        planner: the engine in live mode, or a stand-in.
        backend: carries out what it wants.
        names: of the functions.
        guard: around the policy; None = the planner's own defaults stand.
        clock: real unless a test brings its own.
    """

    def __init__(
        self,
        planner: Planner,
        backend: Backend,
        names: Sequence[str],
        guard: Guard | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.planner = planner
        self.backend = backend
        self.names = tuple(names)
        self.guard = guard
        self.clock: Clock = clock if clock is not None else RealClock()
        self.statistics = Statistics()
        self._index = {name: fn for fn, name in enumerate(self.names)}
        self._open = OpenRequests(self.names, self.statistics)
        # By the order that brought each up: the planner gives numbers of lost ones out again.
        self._instances: dict[int, Load] = {}
        self._running: dict[int, Run] = {}
        self._backoff = Backoff(FIRST_BACKOFF_S, LAST_BACKOFF_S)
        self._reasons: dict[int, str] = {}
        self._timer: Timer | None = None
        self._ticks = Ticks(guard, self.clock, self._look, self._obey) if guard else None
        self._retry: asyncio.Future[None] | None = None
        self._closed = False
        self.fault: Exception | None = None
        """What the planner raised, if it did; the controller then serves no more."""

    async def start(self, start_backend: bool = True) -> None:
        """Start the backend, ask the policy once, and begin to tick."""
        self.backend.on_lost = self._lost
        if start_backend:
            await self.backend.start()
        if self._ticks is not None:
            await self._ticks.ask()

    async def close(self) -> None:
        """Fail what is still open, then stop the backend."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._ticks is not None:
            self._ticks.stop()
        self._open.fail_all(CLOSING)
        await self.backend.close()

    # REQUESTS

    def request(
        self, function: str | int, payload: Any, service_hint: float | None = None
    ) -> asyncio.Future[Answer]:
        """Take in one request; the future ends with its Answer or with RequestFailed.

        Raises:
            SpecError: no such function.
        """
        fn = self._index.get(function, -1) if isinstance(function, str) else function
        if not 0 <= fn < len(self.names):
            raise SpecError("request.function", function, " | ".join(self.names))
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.statistics.counts["requests"] += 1
        if self._closed:
            future.set_exception(RequestFailed(self.names[fn], CLOSING))
            return future
        now = self.clock.now()
        try:
            number = self.planner.arrive(now, fn, service_hint)
        except Exception as error:
            self._collapse(error)
            raise
        self._open.add(number, PendingRequest(fn, payload, now, future))
        self._tell()
        return future

    @property
    def open_requests(self) -> int:
        """Requests that have not ended."""
        return len(self._open)

    # FACTS AND EFFECTS

    def _tell(self, fact: Callable[..., None] | None = None, *details: Any) -> None:
        """Tell the planner a fact, carry out what it wants then, and set its next alarm."""
        if self._closed:
            return
        try:
            if fact is not None:
                fact(self.clock.now(), *details)
            self._pump()
        except Exception as error:
            self._collapse(error)

    def _collapse(self, error: Exception) -> None:
        """The planner itself has failed, so nothing can be served: answer everybody."""
        self._closed = True
        self.fault = error
        self._open.fail_all(f"the planner failed: {type(error).__name__}: {error}")

    def _pump(self) -> None:
        for effect in self.planner.effects():
            self._carry_out(effect)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.planner.next_timer()
        if math.isfinite(due):
            self._timer = self.clock.call_at(due, self._alarm)

    def _alarm(self) -> None:
        self._timer = None
        self._tell(self.planner.advance)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Load():
                self._load(effect)
            case Run():
                self._run(effect)
            case Drop(instance=instance, gpu=gpu, to_host=to_host):
                self._instances.pop(instance, None)
                self.statistics.counts["drops"] += 1
                self.backend.drop(gpu, instance, to_host).add_done_callback(self._settled)
            case FetchHost():
                future = self.backend.fetch_host(effect.fn)
                future.add_done_callback(lambda done: self._fetched(effect, done))
            case DropHost(fn=fn):
                self.backend.drop_host(fn)
            case Reject(request=number, failed=True):
                fn = self._open[number].fn if number in self._open else -1
                self._open.fail(number, self._reasons.get(fn, "its instance failed"))
            case Reject(request=number):
                self._open.fail(number, "refused by the policy", "rejected")

    def _fetched(self, effect: FetchHost, done: asyncio.Future[Reply]) -> None:
        if done.cancelled() or self._closed:
            return
        if done.exception() is None:
            self._tell(self.planner.ready, effect.instance)
        else:
            self.statistics.counts["load_errors"] += 1
            self._tell(self.planner.failed, effect.instance)

    def _load(self, effect: Load) -> None:
        self._instances[effect.instance] = effect
        until_s = self._backoff.until_s(effect.fn)
        if self.clock.now() < until_s:
            self.clock.call_at(until_s, lambda: self._load_now(effect))
        else:
            self._load_now(effect)

    def _load_now(self, effect: Load) -> None:
        if self._closed or self._instances.get(effect.instance) is not effect:
            return
        future = self.backend.load(effect.gpu, effect.instance, effect.fn, effect.source)
        future.add_done_callback(lambda done: self._loaded(effect, done))

    def _loaded(self, effect: Load, done: asyncio.Future[Reply]) -> None:
        error = None if done.cancelled() else done.exception()
        if self._instances.get(effect.instance) is not effect or done.cancelled() or self._closed:
            return
        if error is not None:
            self.statistics.counts["load_errors"] += 1
            self._backoff.failed(effect.fn, self.clock.now())
            self._give_up(effect.instance, str(error))
            return
        self._backoff.succeeded(effect.fn)
        self.statistics.counts[f"loads_{effect.source}"] += 1
        self.statistics.load_s[effect.source].append(done.result().seconds)
        self._tell(self.planner.ready, effect.instance)

    def _give_up(self, instance: int, reason: str) -> None:
        """Tell the planner that an instance is gone; who waited for it fails."""
        load = self._instances.pop(instance)
        self._reasons[load.fn] = reason
        for head in [h for h, run in self._running.items() if run.instance == instance]:
            del self._running[head]
        self._tell(self.planner.failed, instance)

    def _run(self, effect: Run) -> None:
        payloads = self._open.payloads(effect.requests)
        start_s = self.clock.now()
        self._running[effect.requests[0]] = effect
        self.statistics.counts["batches"] += 1
        future = self.backend.run(effect.gpu, effect.instance, payloads)
        future.add_done_callback(lambda done: self._ran(effect, start_s, done))

    def _ran(self, effect: Run, start_s: float, done: asyncio.Future[Reply]) -> None:
        if done.cancelled() or self._closed:
            return
        error = done.exception()
        if isinstance(error, OrderFailed) and len(effect.requests) > 1:
            # One request that cannot be served must not take its neighbours with it.
            self._retry = asyncio.ensure_future(self._one_by_one(effect, start_s))
            return
        if self._running.get(effect.requests[0]) is not effect:
            return
        if error is None:
            self._deliver(effect.requests, start_s, done.result())
        elif isinstance(error, OrderFailed):
            self.statistics.counts["batch_errors"] += 1
            self._open.fail(effect.requests[0], str(error))
        else:
            self._give_up(effect.instance, str(error))
            return
        del self._running[effect.requests[0]]
        self._tell(self.planner.completed, effect.requests[0])

    async def _one_by_one(self, effect: Run, start_s: float) -> None:
        for number in effect.requests:
            if effect.requests[0] not in self._running or number not in self._open:
                continue
            try:
                payload = self._open.payloads((number,))
                reply = await self.backend.run(effect.gpu, effect.instance, payload)
                self._deliver((number,), start_s, reply)
            except (OrderFailed, WorkerDied) as error:
                self._open.fail(number, str(error))
        self.statistics.counts["batch_errors"] += 1
        if self._running.pop(effect.requests[0], None) is not None:
            self._tell(self.planner.completed, effect.requests[0])

    def _deliver(self, numbers: tuple[int, ...], start_s: float, reply: Reply) -> None:
        now = self.clock.now()
        self.statistics.overhead_s.append(now - start_s - reply.seconds)
        self._open.deliver(numbers, reply.value, start_s, now, reply.seconds)

    def _lost(self, gpu: int, instances: list[int]) -> None:
        """A device's worker died: what was in flight fails, and the planner starts afresh."""
        busy = {run.instance for run in self._running.values()}
        # Busy ones last: while they hold the device, the planner starts nothing on the others.
        for instance in sorted(instances, key=lambda instance: instance in busy):
            if instance in self._instances:
                self.statistics.counts["lost_instances"] += 1
                self._give_up(instance, f"the worker of device {gpu} died")

    # POLICY

    def _look(self) -> Snapshot | None:
        self._tell(self.planner.advance)
        return None if self._closed else self.planner.snapshot()

    def _obey(self, decision: Decision) -> None:
        self._tell(self._apply, decision)

    def _apply(self, t: float, decision: Decision) -> None:
        self.planner.advance(t)
        self.planner.apply(decision)

    def _settled(self, done: asyncio.Future[Reply]) -> None:
        """Count an order that nobody waits for, if it failed."""
        if not done.cancelled() and isinstance(done.exception(), OrderFailed):
            self.statistics.counts["order_errors"] += 1
