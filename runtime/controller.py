"""The controller: one asyncio loop owns all state, tells the planner facts, carries out effects.

Every request ends: with an answer, or with RequestFailed and the reason.  Units: seconds.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from stoker.envs.cluster.decision import Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.live import Drop, DropHost, Effect, FetchHost, Load, Reject, Run
from stoker.runtime.backend import Backend
from stoker.runtime.clock import Clock, RealClock, Timer
from stoker.runtime.guard import Guard
from stoker.runtime.messages import Reply
from stoker.runtime.planner import Planner
from stoker.runtime.process import OrderFailed, WorkerDied
from stoker.runtime.requests import Answer, PendingRequest, RequestFailed, Statistics

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
        self._open: dict[int, PendingRequest] = {}
        # By the order that brought each up: the planner gives numbers of lost ones out again.
        self._instances: dict[int, Load] = {}
        self._running: dict[int, Run] = {}
        self._backoff: dict[int, tuple[float, float]] = {}
        self._reasons: dict[int, str] = {}
        self._timer: Timer | None = None
        self._tick: Timer | None = None
        self._deciding: asyncio.Task[None] | None = None
        self._retry: asyncio.Future[None] | None = None
        self._closed = False

    async def start(self, start_backend: bool = True) -> None:
        """Start the backend, ask the policy once, and begin to tick."""
        self.backend.on_lost = self._lost
        if start_backend:
            await self.backend.start()
        await self._decide()

    async def close(self) -> None:
        """Fail what is still open, then stop the backend."""
        self._closed = True
        for timer in (self._timer, self._tick):
            if timer is not None:
                timer.cancel()
        if self._deciding is not None:
            self._deciding.cancel()
        for number in list(self._open):
            self._fail(number, "the runtime is closing")
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
            future.set_exception(RequestFailed(self.names[fn], "the runtime is closing"))
            return future
        now = self.clock.now()
        number = self.planner.arrive(now, fn, service_hint)
        self._open[number] = PendingRequest(fn, payload, now, future)
        self._pump()
        return future

    @property
    def open_requests(self) -> int:
        """Requests that have not ended."""
        return len(self._open)

    def _fail(self, number: int, reason: str = "", kind: str = "failed") -> None:
        request = self._open.pop(number, None)
        if request is None:
            return
        reason = reason or self._reasons.get(request.fn, "its instance failed")
        self.statistics.counts[kind] += 1
        if not request.future.done():
            request.future.set_exception(RequestFailed(self.names[request.fn], reason))
            # A client that went away does not fetch it: that is no fault to report.
            request.future.exception()

    # EFFECTS

    def _pump(self) -> None:
        """Carry out what the planner wants, then set the alarm for its next timer."""
        if self._closed:
            return
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
        self.planner.advance(self.clock.now())
        self._pump()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Load():
                self._load(effect)
            case Run():
                self._run(effect)
            case Drop(instance=instance, gpu=gpu, to_host=to_host):
                self._instances.pop(instance, None)
                self.statistics.counts["drops"] += 1
                _ignore(self.backend.drop(gpu, instance, to_host))
            case FetchHost():
                future = self.backend.fetch_host(effect.fn)
                future.add_done_callback(lambda done: self._fetched(effect, done))
            case DropHost(fn=fn):
                self.backend.drop_host(fn)
            case Reject(request=number, failed=True):
                self._fail(number)
            case Reject(request=number):
                self._fail(number, "refused by the policy", "rejected")

    def _fetched(self, effect: FetchHost, done: asyncio.Future[Reply]) -> None:
        if done.cancelled() or self._closed:
            return
        if done.exception() is None:
            self.planner.ready(self.clock.now(), effect.instance)
        else:
            self.statistics.counts["load_errors"] += 1
            self.planner.failed(self.clock.now(), effect.instance)
        self._pump()

    def _load(self, effect: Load) -> None:
        self._instances[effect.instance] = effect
        _, until_s = self._backoff.get(effect.fn, (0.0, 0.0))
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
            self._load_failed(effect, str(error))
            return
        self._backoff.pop(effect.fn, None)
        self.statistics.counts[f"loads_{effect.source}"] += 1
        self.statistics.load_s[effect.source].append(done.result().seconds)
        self.planner.ready(self.clock.now(), effect.instance)
        self._pump()

    def _load_failed(self, effect: Load, reason: str) -> None:
        """Give the instance up; who waited for it fails, and the next try waits a little."""
        now = self.clock.now()
        self.statistics.counts["load_errors"] += 1
        last_s, _ = self._backoff.get(effect.fn, (FIRST_BACKOFF_S / 2.0, 0.0))
        pause_s = min(2.0 * last_s, LAST_BACKOFF_S)
        self._backoff[effect.fn] = (pause_s, now + pause_s)
        self._give_up(effect.instance, reason)
        self._pump()

    def _give_up(self, instance: int, reason: str) -> None:
        """Tell the planner that an instance is gone."""
        load = self._instances.pop(instance)
        self._reasons[load.fn] = reason
        for head in [h for h, run in self._running.items() if run.instance == instance]:
            del self._running[head]
        self.planner.failed(self.clock.now(), instance)

    def _run(self, effect: Run) -> None:
        payloads = [self._open[n].payload for n in effect.requests if n in self._open]
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
        now = self.clock.now()
        if error is None:
            self._deliver(effect, start_s, now, done.result())
        elif isinstance(error, OrderFailed):
            self.statistics.counts["batch_errors"] += 1
            self._fail(effect.requests[0], str(error))
        else:
            self._give_up(effect.instance, str(error))
            self._pump()
            return
        del self._running[effect.requests[0]]
        self.planner.completed(now, effect.requests[0])
        self._pump()

    async def _one_by_one(self, effect: Run, start_s: float) -> None:
        for number in effect.requests:
            if effect.requests[0] not in self._running or number not in self._open:
                continue
            single = Run(effect.instance, effect.fn, effect.gpu, (number,))
            try:
                payload = [self._open[number].payload]
                reply = await self.backend.run(effect.gpu, effect.instance, payload)
                self._deliver(single, start_s, self.clock.now(), reply)
            except (OrderFailed, WorkerDied) as error:
                self._fail(number, str(error))
        self.statistics.counts["batch_errors"] += 1
        if self._running.pop(effect.requests[0], None) is not None and not self._closed:
            self.planner.completed(self.clock.now(), effect.requests[0])
            self._pump()

    def _deliver(self, effect: Run, start_s: float, now: float, reply: Reply) -> None:
        self.statistics.overhead_s.append(now - start_s - reply.seconds)
        open_numbers = [n for n in effect.requests if n in self._open]
        for number, output in zip(open_numbers, reply.value, strict=True):
            request = self._open.pop(number)
            self.statistics.counts["served"] += 1
            if not request.future.done():
                request.future.set_result(
                    Answer(
                        output, request.arrival_s, start_s, now, len(open_numbers), reply.seconds
                    )
                )

    def _lost(self, gpu: int, instances: list[int]) -> None:
        """A device's worker died: what was in flight fails, and the planner starts afresh."""
        for instance in instances:
            if instance in self._instances:
                self.statistics.counts["lost_instances"] += 1
                self._give_up(instance, f"the worker of device {gpu} died")
        self._pump()

    # POLICY

    def _next_tick(self) -> None:
        self._tick = None
        self._deciding = asyncio.get_running_loop().create_task(self._decide())

    async def _decide(self) -> None:
        if self.guard is None or self._closed:
            return
        self.planner.advance(self.clock.now())
        decision = await self.guard.decide(copy_snapshot(self.planner.snapshot()))
        self.planner.advance(self.clock.now())
        self.planner.apply(decision)
        self._pump()
        tick_s = self.guard.policy.tick_s
        if math.isfinite(tick_s):
            self._tick = self.clock.call_at(self.clock.now() + tick_s, self._next_tick)


def copy_snapshot(snapshot: Snapshot) -> Snapshot:
    """Copy a snapshot whose arrays may be views of tables that change."""
    return Snapshot(**{f.name: np.array(getattr(snapshot, f.name)) for f in fields(Snapshot)})


def _ignore(future: asyncio.Future[Reply]) -> None:
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
