"""A backend that does what the live engine orders in exactly the simulator's durations.

Units: seconds.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.live_effects import Drop, FetchHost, Load, Reject, Run
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.workload.workload import Workload

COMPLETED, READY, FAILED = 0, 1, 2


@dataclass(frozen=True)
class Fact:
    """What the backend reports at its time."""

    kind: int
    instance: int
    life: int
    """Which of the instances that have used this slot."""
    head: int = -1


def never(rng: Any) -> bool:
    """No order fails."""
    return False


class FakeBackend:
    """Drives one LiveEngine through a workload.

    Links must be infinite: a load takes runtime_s + warmup_s, whatever its source.
    """

    def __init__(
        self, cluster: Cluster, workload: Workload, rules: Rules,
        fails: Callable[[Any], bool] = never, seed: int = 0, recycle: bool = False,
    ) -> None:  # fmt: skip
        self.cluster, self.workload = cluster, workload
        self.engine = LiveEngine(cluster, rules, capacity=4, recycle=recycle)
        self.now = 0.0
        self.answered: dict[int, str] = {}
        self.ids: dict[int, int] = {}
        self._due: list[tuple[float, int, int, Fact]] = []
        self._order = itertools.count()
        self._fails, self._rng = fails, np.random.default_rng(seed)
        self._arrived = 0
        self._life: dict[int, int] = {}

    def apply(self, decision: Decision) -> None:
        """Give orders now."""
        self.engine.apply(decision)
        self._carry_out()

    def run(self, until: float) -> None:
        """Everything strictly before `until`, in the simulator's order of equal times."""
        arrival = self.workload.arrival_s
        while True:
            fact = self._due[0][:2] if self._due else (np.inf, 0)
            timer = (self.engine.next_timer(), 2)
            call = (float(arrival[self._arrived]) if self._arrived < len(arrival) else np.inf, 3)
            first = min(fact, timer, call)
            if first[0] >= until:
                break
            self.now = first[0]
            if first == fact:
                self._report(heapq.heappop(self._due)[3])
            elif first == timer:
                self.engine.advance(self.now)
            else:
                q = self._arrived
                self._arrived += 1
                self.ids[self.engine.arrive(self.now, int(self.workload.function[q]))] = q
            self._carry_out()
        self.now = until
        self.engine.advance(until)  # timers of just this instant do not occur: times are spread
        self._carry_out()

    def _report(self, fact: Fact) -> None:
        if self._life[fact.instance] != fact.life:
            return  # lost meanwhile
        if fact.kind == COMPLETED:
            self.engine.completed(self.now, fact.head)
        elif fact.kind == READY:
            self.engine.ready(self.now, fact.instance)
        else:
            self._life[fact.instance] += 1
            self.engine.failed(self.now, fact.instance)

    def _soon(self, seconds: float, fact: Fact) -> None:
        if self._fails(self._rng):
            seconds *= float(self._rng.random())
            fact = Fact(FAILED, fact.instance, fact.life)
        item = (self.now + seconds, fact.kind, next(self._order), fact)
        heapq.heappush(self._due, item)

    def _carry_out(self) -> None:
        for order in self.engine.effects():
            if isinstance(order, Load | FetchHost):
                life = self._life[order.instance] = self._life.get(order.instance, 0) + 1
                spec = self.cluster.functions[order.fn]
                load = (spec.runtime_s, spec.warmup_s) if isinstance(order, Load) else (0.0, 0.0)
                done = (self.now + load[0]) + load[1] - self.now
                self._soon(done, Fact(READY, order.instance, life))
            elif isinstance(order, Run):
                self._serve(order)
            elif isinstance(order, Reject):
                self._answer(order.request, "failed" if order.failed else "refused")
            elif isinstance(order, Drop):
                self._life[order.instance] += 1

    def _serve(self, order: Run) -> None:
        spec = self.cluster.functions[order.fn]
        takes = spec.alpha_s + spec.beta_s * len(order.requests)
        life = self._life[order.instance]
        self._soon(takes, Fact(COMPLETED, order.instance, life, order.requests[0]))

    def _answer(self, request: int, how: str) -> None:
        assert request not in self.answered
        self.answered[request] = how
