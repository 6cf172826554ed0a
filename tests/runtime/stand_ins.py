"""A small planner and a backend without processes, for scenarios in virtual time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stoker.envs.cluster.decision import Capabilities, Decision, Snapshot
from stoker.envs.cluster.live_effects import Drop, Effect, Load, Reject, Run
from stoker.envs.cluster.policy_like import PolicyLike
from stoker.envs.cluster.recollection import Memory
from stoker.envs.cluster.spec import Rules
from stoker.runtime.backend_protocol import Listener
from stoker.runtime.clock import VirtualClock
from stoker.runtime.messages import Reply
from stoker.runtime.process import OrderFailed, WorkerDied


class OneInstance:
    """One instance a function, loaded on demand, kept for `keep_s`; whole queues as batches."""

    def __init__(self, functions: int, keep_s: float = math.inf) -> None:
        self.keep_s = np.full(functions, keep_s)
        self.queues: list[list[int]] = [[] for _ in range(functions)]
        self.state: dict[int, str] = {}
        self.idle_since: dict[int, float] = {}
        self.batches: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.wanted: list[Effect] = []
        self.applied: list[Decision] = []
        self.followed: list[Rules] = []
        self.recalled: list[tuple[Memory, float]] = []
        self.numbers = 0
        self.instances = 0
        self.of: dict[int, int] = {}

    def arrive(self, t: float, fn: int, service_hint: float | None = None) -> int:
        self.advance(t)
        self.queues[fn].append(self.numbers)
        self.numbers += 1
        self._serve(fn)
        return self.numbers - 1

    def _serve(self, fn: int) -> None:
        if not self.queues[fn]:
            return
        instance = self.of.get(fn)
        if instance is None:
            self.instances += 1
            self.of[fn], self.state[self.instances] = self.instances, "loading"
            self.wanted.append(Load(self.instances, fn, 0, "disk"))
        elif self.state[instance] == "idle":
            requests, self.queues[fn] = tuple(self.queues[fn]), []
            self.state[instance] = "busy"
            self.batches[requests[0]] = (instance, requests)
            self.wanted.append(Run(instance, fn, 0, requests))

    def cancel(self, t: float, request: int) -> bool:
        queue = next((q for q in self.queues if request in q), None)
        if queue is not None:
            queue.remove(request)
        return queue is not None

    def observe(self, policy: PolicyLike) -> None:
        pass

    def follow(self, rules: Rules) -> None:
        self.followed.append(rules)

    @property
    def pending(self) -> int:
        return -1

    def remember(self, t: float) -> Memory:
        return {"instances": np.array(self.instances)}

    def recall(self, memory: Memory, away_s: float = 0.0) -> None:
        self.recalled.append((memory, away_s))

    def ready(self, t: float, instance: int) -> None:
        self._idle(t, instance)

    def _idle(self, t: float, instance: int) -> None:
        self.state[instance], self.idle_since[instance] = "idle", t
        self._serve(next(f for f, i in self.of.items() if i == instance))

    def completed(self, t: float, head: int) -> None:
        self._idle(t, self.batches.pop(head)[0])

    def failed(self, t: float, *instances: int) -> None:
        gone = [fn for fn, i in self.of.items() if i in instances]
        lost = [n for i, batch in self.batches.values() if i in instances for n in batch]
        for fn in gone:
            instance = self.of.pop(fn)
            if self.state.pop(instance) == "loading":
                lost, self.queues[fn] = lost + self.queues[fn], []
        self.wanted += [Reject(number, True) for number in lost]
        self.batches = {h: b for h, b in self.batches.items() if b[0] not in instances}
        for fn in gone:
            self._serve(fn)

    def _due(self) -> list[tuple[float, int, int]]:
        return sorted(
            (self.idle_since[i] + self.keep_s[f], f, i)
            for f, i in self.of.items()
            if self.state[i] == "idle"
        )

    def advance(self, t: float) -> None:
        for due, fn, instance in self._due():
            if due <= t:
                del self.of[fn], self.state[instance]
                self.wanted.append(Drop(instance, fn, 0, False))

    def next_timer(self) -> float:
        return min((due for due, _, _ in self._due()), default=math.inf)

    def apply(self, decision: Decision) -> None:
        self.applied.append(decision)
        if decision.keep_alive_s is not None:
            self.keep_s = np.broadcast_to(decision.keep_alive_s, (1, len(self.queues)))[0]
        if decision.drop_head is not None:
            for fn in np.flatnonzero(decision.drop_head[0]):
                if self.queues[fn]:
                    self.wanted.append(Reject(self.queues[fn].pop(0), False))

    def snapshot(self) -> Snapshot:
        return blank_snapshot(len(self.queues))

    def effects(self) -> Sequence[Effect]:
        wanted, self.wanted = self.wanted, []
        return wanted


def blank_snapshot(functions: int) -> Snapshot:
    whole, real = np.zeros((1, functions), np.int32), np.zeros((1, functions))
    return Snapshot(
        now_s=np.zeros(1),
        age_s=np.zeros(1),
        idle=whole,
        busy=whole,
        loading=whole,
        on_host=whole,
        queued=whole,
        arrivals=whole.astype(np.int64),
        last_arrival_s=real,
        last_idle_s=real,
        rate_hz=np.zeros((1, functions, 4)),
        gap_histogram=np.zeros((1, functions, 72), np.float32),
        free_gib=np.zeros((1, 1)),
        host_free_gib=np.zeros(1),
        loads_in_progress=np.zeros(1, np.int32),
        memory_price=np.zeros(1),
        nodes_up=np.ones((1, 1), np.int32),
        observation=np.zeros((1, 0), np.float32),
    )


class TimedBackend:
    """Every load takes `load_s`, every batch `batch_s` of virtual time; the rest is immediate."""

    def __init__(self, clock: VirtualClock, load_s: float = 1.0, batch_s: float = 0.5) -> None:
        self.clock, self.load_s, self.batch_s = clock, load_s, batch_s
        self.capabilities = Capabilities()
        self.on_lost: Callable[[int, list[int]], None] = lambda gpu, instances: None
        self.log: list[tuple[float, str, int]] = []
        self.waiting: list[asyncio.Future[Reply]] = []
        self.held: list[int] = []
        self.broken: set[int] = set()
        self.budgets: list[tuple[int, int]] = []
        self.closed = False

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True

    def _later(self, seconds: float, outcome: Any) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)

        def settle() -> None:
            if future.done():
                return
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(Reply(1, seconds, outcome))

        self.clock.call_at(self.clock.now() + seconds, settle)
        return future

    def load(self, gpu: int, instance: int, fn: int, source: str) -> asyncio.Future[Reply]:
        self.log.append((self.clock.now(), "load", fn))
        if fn in self.broken:
            return self._later(self.load_s, OrderFailed("no such weights"))
        self.held.append(instance)
        return self._later(self.load_s, None)

    def drop(self, gpu: int, instance: int, to_host: bool) -> asyncio.Future[Reply]:
        self.log.append((self.clock.now(), "drop", instance))
        self.held.remove(instance)
        return self._later(0.0, None)

    def run(
        self, gpu: int, instance: int, payloads: Sequence[Any], listener: Listener | None = None
    ) -> asyncio.Future[Reply]:
        assert instance in self.held
        self.log.append((self.clock.now(), "run", len(payloads)))
        if "poison" in payloads:
            return self._later(self.batch_s, OrderFailed("cannot be served"))
        return self._later(self.batch_s, [p * 2 for p in payloads])

    def fetch_host(self, fn: int) -> asyncio.Future[Reply]:
        return self._later(0.0, None)

    def set_token_budget(self, fn: int, token_budget: int) -> None:
        self.budgets.append((fn, token_budget))

    def drop_host(self, fn: int) -> None:
        pass

    def die(self) -> None:
        lost, self.held = self.held, []
        for future in self.waiting:
            if not future.done():
                future.set_exception(WorkerDied("died"))
        self.on_lost(0, lost)
