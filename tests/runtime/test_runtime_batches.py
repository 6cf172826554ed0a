"""Policies of batches under guard: whatever they say, what waits is served."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_ins import TimedBackend

from stoker.baselines.batch_policy import WAIT, BatchPolicy, Due
from stoker.baselines.batched import Batched
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.runtime.ask_again import ask_again, read_log
from stoker.runtime.batch_guard import fault
from stoker.runtime.clock import VirtualClock
from stoker.runtime.controller import Controller
from stoker.runtime.decision_log import DecisionLog
from stoker.runtime.guard import Guard
from stoker.runtime.guard_settings import GuardSettings

SIZES = (1, 2, 4)
RUN_ONE = np.array([2])
CLUSTER = Cluster(
    Node((Gpu(2.0, sharing="exclusive"),)),
    tuple(
        Function(f"f{i}", 1.0, 1.0, runtime_s=1.0, alpha_s=0.5, max_batch=4, slo_s=5.0)
        for i in range(2)
    ),
)


class Answers(BatchPolicy):
    """Says the same of every batch, raises it, or sleeps so long and then runs one."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.calls = answer, 0

    def decide(self, observation: np.ndarray, due: Due) -> np.ndarray:
        self.calls += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        if isinstance(self.answer, float):
            time.sleep(self.answer)
            return RUN_ONE
        return self.answer  # type: ignore[no-any-return]


def play(
    answer: Any, then: Any = None, log: DecisionLog | None = None, **settings: Any
) -> tuple[Guard, list[int], Answers]:
    """Eight requests at once; return how large the batches were."""
    policy = Answers(answer)
    chosen = {"event_budget_s": 0.05, "budget_s": 5.0, "first_budget_s": 5.0, "hold_s": 1e5}
    options = GuardSettings(**{**chosen, "longest_hold_s": 1e6, **settings})
    guard = Guard(Batched(policy, SIZES), CLUSTER, settings=options, log=log)
    clock = VirtualClock()
    engine = LiveEngine(CLUSTER, guard.rules, batched=guard.batched)
    backend = TimedBackend(clock)
    controller = Controller(engine, backend, ["f0", "f1"], guard, clock)

    async def main() -> None:
        await controller.start()
        futures = [controller.request("f0", "x") for _ in range(8)]
        if then is not None:
            await clock.run_until(1.2)
            await then(controller)
        await clock.run_until(60.0)
        assert all(future.result().output == "xx" for future in futures)
        await controller.close()
        guard.close()

    asyncio.run(main())
    return guard, [size for _, kind, size in backend.log if kind == "run"], policy


def test_a_good_action_passes() -> None:
    guard, sizes, policy = play(RUN_ONE)
    assert sizes == [1] * 8 and policy.calls == guard.counts.events == 8
    assert not guard.counts.fallbacks and len(guard.counts.seconds) == 1 + 8


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (np.array([99]), "illegal"),
        (np.array([-1]), "illegal"),
        (np.array([0.5]), "illegal"),
        (np.array([np.nan]), "nan"),
        (np.array([2, 2]), "malformed"),
        ("x", "malformed"),
        (None, "malformed"),
        (RuntimeError("odd"), "raised"),
    ],
)
def test_instead_of_a_bad_one_all_that_waits_is_run(answer: Any, reason: str) -> None:
    guard, sizes, _ = play(answer)
    assert sizes == [4, 4]
    assert guard.counts.fallbacks == {reason: 2}


def test_a_slow_one_delays_nobody_for_long() -> None:
    began = time.perf_counter()
    guard, sizes, policy = play(1.0, first_budget_s=0.05)
    assert sizes == [4, 4] and guard.counts.fallbacks == {"slow": 2} and policy.calls == 1
    assert time.perf_counter() - began < 60.0


def test_in_shadow_it_is_asked_and_all_that_waits_is_run(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, ["f0", "f1"])
    _, sizes, policy = play(RUN_ONE, log=log, mode="shadow")
    log.close()
    assert sizes == [4, 4] and policy.calls == 2
    rows = [row for row in read_log(tmp_path) if row["kind"] == "batch"]
    found = [(r["who"], r["said_by"], r["why"], r["action"], r["function"]) for r in rows]
    assert found == [("fallback", "policy", "shadow", 2, 0)] * 2

    class Prefers(Answers):
        """As an exported policy: by the observation alone."""

        def prefer(self, observation: np.ndarray) -> np.ndarray:
            return np.tile(np.eye(5)[self.answer], (len(observation), 1))

    assert ask_again(tmp_path, Batched(Prefers(2), SIZES)).share == 1.0
    assert ask_again(tmp_path, Batched(Prefers(3), SIZES)).differ == {"action": 2}


def test_a_policy_of_batches_is_swapped_between_two_of_them() -> None:
    fresh = Answers(np.array([3]))

    async def swap(controller: Controller) -> None:
        await controller.reload(lambda: Batched(fresh, SIZES))
        with pytest.raises(SpecError, match=r"policy\.sizes"):
            await controller.reload(lambda: Batched(fresh, (1, 2)))
        with pytest.raises(SpecError, match="legal answers to 1 question"):
            await controller.reload(lambda: Batched(Nonsense(None), SIZES))

    guard, sizes, old = play(RUN_ONE, then=swap)
    assert sizes == [1, 2, 2, 2, 1] and old.calls == 1 and guard.counts.reloads == 1


class Nonsense(Answers):
    """A graph of another shape."""

    def prefer(self, observation: np.ndarray) -> np.ndarray:
        return np.zeros((len(observation), 3))


def test_waiting_is_legal_within_its_time() -> None:
    assert fault(np.array([WAIT]), 3) == "" and fault(np.array([4]), 3) == ""
    assert fault(np.array([5]), 3) == "illegal"
