from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from stand_ins import OneInstance, TimedBackend, blank_snapshot

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.runtime.clock import VirtualClock
from stoker.runtime.controller import Controller
from stoker.runtime.guard import Guard, KeepAll

CLUSTER = Cluster(Node((Gpu(1.0),)), (Function("a", 0.1, 0.1), Function("b", 0.1, 0.1)))


class Says(Policy):
    tick_s = 0.02

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def decide(self, snapshot: Snapshot) -> Decision:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            time.sleep(answer)
            return Decision()
        return answer  # type: ignore[return-value]


def ask(*answers: object, times: int = 1, budget_s: float = 0.1) -> tuple[Guard, list[Decision]]:
    guard = Guard(Says(*answers), CLUSTER, budget_s=budget_s, first_budget_s=budget_s)

    async def decide() -> list[Decision]:
        return [await guard.decide(blank_snapshot(2)) for _ in range(times)]

    return guard, asyncio.run(decide())


def test_a_good_decision_passes_untouched() -> None:
    good = Decision(keep_alive_s=np.array([[1.0, np.inf]]))
    guard, given = ask(good)
    assert given[0] is good and not guard.counts.fallbacks
    assert len(guard.counts.seconds) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Decision(keep_alive_s=np.array([[np.nan, 1.0]])), "nan"),
        (Decision(keep_alive_s=np.ones((1, 3))), "malformed"),
        (Decision(keep_alive_s="x"), "malformed"),  # type: ignore[arg-type]
        (None, "malformed"),
        (ValueError("odd"), "raised"),
        (0.5, "slow"),
    ],
)
def test_a_bad_policy_is_replaced_and_counted(answer: object, reason: str) -> None:
    guard, given = ask(answer)
    assert guard.counts.fallbacks == {reason: 1}
    assert guard.fallback_name == "KeepAll"
    assert given[0].keep_alive_s is not None and np.isinf(given[0].keep_alive_s).all()
    if reason == "raised":
        assert guard.counts.last_error == "ValueError: odd"


def test_a_slow_policy_is_not_asked_again_before_it_is_done() -> None:
    began = time.perf_counter()
    guard, _ = ask(0.5, times=3, budget_s=0.05)
    assert guard.counts.fallbacks == {"slow": 3}
    assert time.perf_counter() - began < 0.45


def test_a_policy_that_recovers_decides_again() -> None:
    good = Decision()
    guard, given = ask(RuntimeError("once"), good, times=2)
    assert guard.counts.fallbacks == {"raised": 1} and given[1] is good


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match=r"guard\.budget_s = 0\.0"):
        Guard(KeepAll(), CLUSTER, budget_s=0.0)


def test_the_controller_asks_at_every_tick_and_survives_a_raising_policy() -> None:
    async def serve() -> tuple[OneInstance, Guard]:
        clock = VirtualClock()
        planner, guard = OneInstance(2), Guard(Says(RuntimeError("bad")), CLUSTER)
        controller = Controller(planner, TimedBackend(clock), ["a", "b"], guard, clock)
        await controller.start()
        for step in range(1, 6):
            await clock.run_until(step * 0.02)
            await asyncio.sleep(0.01)
        await controller.close()
        return planner, guard

    planner, guard = asyncio.run(serve())
    assert len(planner.applied) >= 5
    assert guard.counts.fallbacks["raised"] == guard.counts.decisions >= 5


def test_the_first_decision_may_take_longer() -> None:
    guard = Guard(Says(0.2), CLUSTER, budget_s=0.05)

    async def decide() -> None:
        for _ in range(2):
            await guard.decide(blank_snapshot(2))

    asyncio.run(decide())
    assert guard.counts.fallbacks == {"slow": 1} and len(guard.counts.seconds) == 1
