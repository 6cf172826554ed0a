"""Carries out what the planner wants on the backend, and tells it how each order ended.

Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stoker.envs.cluster.live_effects import (
    Drop,
    DropHost,
    Effect,
    FetchHost,
    Load,
    Reject,
    Run,
    SetTokenBudget,
)
from stoker.runtime.backend import Backend
from stoker.runtime.clock import Backoff, Clock
from stoker.runtime.messages import WITHDRAWN, Reply
from stoker.runtime.planner import Planner
from stoker.runtime.process import OrderFailed, WorkerDied
from stoker.runtime.requests import OpenRequests, Statistics

FIRST_BACKOFF_S = 0.05
LAST_BACKOFF_S = 2.0


class Effector:
    """The orders under way.

    Args:
        planner: whose orders these are.
        backend: carries them out.
        clock: of the controller.
        requests: that batches serve.
        statistics: to count in.
        tell: the controller's: tells the planner a fact.
    """

    def __init__(
        self,
        planner: Planner,
        backend: Backend,
        clock: Clock,
        requests: OpenRequests,
        statistics: Statistics,
        tell: Callable[..., None],
    ) -> None:
        self.planner, self.backend, self.clock = planner, backend, clock
        self.statistics = statistics
        self.closed = False
        """Whether what ends now is of no interest any more."""
        self._open, self._tell = requests, tell
        # By the order that brought each up: the planner gives numbers of lost ones out again.
        self._instances: dict[int, Load] = {}
        self._running: dict[int, Run] = {}
        self._backoff = Backoff(FIRST_BACKOFF_S, LAST_BACKOFF_S)
        self._reasons: dict[int, str] = {}
        self._retry: asyncio.Future[None] | None = None

    def carry_out(self, effect: Effect) -> None:
        """Do what the planner wants; it hears of the end."""
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
            case SetTokenBudget(fn=fn, tokens=tokens):
                self.backend.set_token_budget(fn, tokens)
            case Reject(request=number, failed=True):
                fn = self._open[number].fn if number in self._open else -1
                self._open.fail(number, self._reasons.get(fn, "its instance failed"))
            case Reject(request=number):
                self._open.fail(number, "refused by the policy", "rejected")

    def _fetched(self, effect: FetchHost, done: asyncio.Future[Reply]) -> None:
        if done.cancelled() or self.closed:
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
        if self.closed or self._instances.get(effect.instance) is not effect:
            return
        future = self.backend.load(effect.gpu, effect.instance, effect.fn, effect.source)
        future.add_done_callback(lambda done: self._loaded(effect, done))

    def _loaded(self, effect: Load, done: asyncio.Future[Reply]) -> None:
        error = None if done.cancelled() else done.exception()
        if self._instances.get(effect.instance) is not effect or done.cancelled() or self.closed:
            return
        if error is not None:
            self.statistics.counts["load_errors"] += 1
            self._backoff.failed(effect.fn, self.clock.now())
            self._give_up(str(error), effect.instance)
            return
        self._backoff.succeeded(effect.fn)
        self.statistics.counts[f"loads_{effect.source}"] += 1
        self.statistics.load_s[effect.source].append(done.result().seconds)
        self._tell(self.planner.ready, effect.instance)

    def _give_up(self, reason: str, *instances: int) -> None:
        """Tell the planner what is gone, all at once; who waited for it fails."""
        for instance in instances:
            self._reasons[self._instances.pop(instance).fn] = reason
        self._running = {h: r for h, r in self._running.items() if r.instance not in instances}
        self._tell(self.planner.failed, *instances)

    def _run(self, effect: Run) -> None:
        payloads = self._open.begin(effect.requests)
        start_s = self.clock.now()
        self._running[effect.requests[0]] = effect
        if not payloads:  # nobody waits any more
            asyncio.get_running_loop().call_soon(self._over, effect)
            return
        self.statistics.counts["batches"] += 1
        listener = self._open.listener(effect.requests, self.clock.now)
        future = self.backend.run(effect.gpu, effect.instance, payloads, listener)
        future.add_done_callback(lambda done: self._ran(effect, start_s, done))

    def _ran(self, effect: Run, start_s: float, done: asyncio.Future[Reply]) -> None:
        if done.cancelled() or self.closed:
            return
        error = done.exception()
        if isinstance(error, OrderFailed) and len(effect.requests) > 1:
            # One request that cannot be served must not take its neighbours with it.
            self._retry = asyncio.ensure_future(self._one_by_one(effect, start_s))
            return
        if not self._runs(effect):
            return
        if error is None:
            self._deliver(effect.requests, start_s, done.result())
        elif isinstance(error, OrderFailed):
            if str(error) != WITHDRAWN:
                self.statistics.counts["batch_errors"] += 1
            self._open.fail(effect.requests[0], str(error))
        else:
            self._give_up(str(error), effect.instance)
            return
        self._over(effect)

    def _runs(self, effect: Run) -> bool:
        """Whether a batch has not been lost; the numbers of one that has may be others' by now."""
        return self._running.get(effect.requests[0]) is effect

    def _over(self, effect: Run) -> None:
        if self._runs(effect):
            del self._running[effect.requests[0]]
            self._tell(self.planner.completed, effect.requests[0])

    async def _one_by_one(self, effect: Run, start_s: float) -> None:
        for number in effect.requests:
            if not self._runs(effect) or number not in self._open:
                continue
            try:
                payload = self._open.begin((number,))
                reply = await self.backend.run(effect.gpu, effect.instance, payload)
            except (OrderFailed, WorkerDied) as error:
                if self._runs(effect):
                    self._open.fail(number, str(error))
                continue
            if self._runs(effect):
                self._deliver((number,), start_s, reply)
        self.statistics.counts["batch_errors"] += 1
        self._over(effect)

    def _deliver(self, numbers: tuple[int, ...], start_s: float, reply: Reply) -> None:
        now = self.clock.now()
        self.statistics.overhead_s.append(now - start_s - reply.seconds)
        self._open.deliver(numbers, reply.value, start_s, now, reply.seconds)

    def lost(self, gpu: int, instances: list[int]) -> None:
        """A device's worker died: what was in flight fails, and the planner starts afresh."""
        known = [instance for instance in instances if instance in self._instances]
        if known:
            self.statistics.counts["lost_instances"] += len(known)
            self._give_up(f"the worker of device {gpu} died", *known)

    def _settled(self, done: asyncio.Future[Reply]) -> None:
        """Count an order that nobody waits for, if it failed."""
        if not done.cancelled() and isinstance(done.exception(), OrderFailed):
            self.statistics.counts["order_errors"] += 1
