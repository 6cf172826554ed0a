"""Policies that decide at idle events, in the runtime."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import numpy as np
import pytest
from small_models import CNN, GPT, MakeModel
from test_runtime_replay import play

from stoker.baselines.base import IdlePolicy
from stoker.envs.cluster.decision import IdlePlan
from stoker.envs.cluster.observe import K
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.cluster.tables import EXPERTS
from stoker.runtime.backend import TorchBackend
from stoker.runtime.counts import GuardCounts
from stoker.runtime.event_guard import heuristic
from stoker.runtime.guard import Guard
from stoker.runtime.guard_settings import GuardSettings

SEEN = np.zeros((1, K), np.float32)
CLUSTER = Cluster(Node((Gpu(1.0),)), (Function("a", 0.1, 0.1),))


def plan(multiplier: float = 2.0, variant: int = 1, mix: float = 1.0) -> IdlePlan:
    weights = np.zeros((1, EXPERTS))
    weights[0, 0] = mix
    return IdlePlan(weights, np.array([multiplier]), np.array([variant]))


class Acts(IdlePolicy):
    """Answers, raises or sleeps as told; the call at the start is answered well."""

    def __init__(self, answer: object) -> None:
        self.answer, self.calls = answer, 0

    def act(self, observation: np.ndarray) -> IdlePlan:
        self.calls += 1
        if self.calls > 1 and isinstance(self.answer, BaseException):
            raise self.answer
        if self.calls > 1 and isinstance(self.answer, float):
            time.sleep(self.answer)
        good = self.calls == 1 or isinstance(self.answer, float)
        return plan() if good else self.answer  # type: ignore[return-value]


def ask(answer: object, times: int = 1) -> tuple[GuardCounts, IdlePlan]:
    settings = GuardSettings(event_budget_s=0.05, first_budget_s=1.0, hold_s=100.0)
    guard = Guard(Acts(answer), CLUSTER, settings=settings)
    assert guard.act is not None
    given = [guard.act(SEEN) for _ in range(times)]
    guard.close()
    return guard.counts, given[-1]


def test_a_good_plan_passes_untouched() -> None:
    good = plan()
    counts, given = ask(good)
    assert given is good and counts.events == 1 and not counts.fallbacks
    assert len(counts.seconds) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (plan(multiplier=np.nan), "nan"),
        (plan(mix=np.inf), "nan"),
        (plan(multiplier=-1.0), "illegal"),
        (plan(variant=3), "illegal"),
        (plan(mix=0.5), "illegal"),
        (IdlePlan(np.ones((1, 2)), np.ones(1), np.zeros(1, np.int64)), "malformed"),
        (IdlePlan("x", np.ones(1), np.zeros(1, np.int64)), "malformed"),  # type: ignore[arg-type]
        (None, "malformed"),
        (ValueError("odd"), "raised"),
        (SystemExit(), "raised"),
        (0.5, "slow"),
    ],
)
def test_a_bad_plan_is_replaced_by_the_heuristic_and_counted(answer: object, reason: str) -> None:
    counts, given = ask(answer)
    assert counts.fallbacks == {reason: 1}
    assert given.multiplier == 1.0 and given.variant == 0
    np.testing.assert_array_equal(given.mix, heuristic(SEEN).mix)


def test_a_slow_event_policy_is_not_asked_again_before_it_is_done() -> None:
    began = time.perf_counter()
    counts, _ = ask(0.5, times=4)
    assert counts.fallbacks == {"slow": 3, "held": 1}, "three in a row cost it the helm"
    assert time.perf_counter() - began < 0.4


def test_in_shadow_nobody_waits_for_a_slow_policy() -> None:
    settings = GuardSettings(mode="shadow", event_budget_s=0.2, budget_s=5.0, hold_s=100.0)
    guard = Guard(Acts(1.0), CLUSTER, settings=settings)
    assert guard.act is not None
    took = []
    for _ in range(3):
        began = time.perf_counter()
        assert guard.act(SEEN).multiplier == 1.0
        took.append(time.perf_counter() - began)
    assert max(took) < 0.5
    guard.close()  # it may finish what it was asked
    assert guard.counts.fallbacks == {"slow": 3} and guard.counts.trips == 1


def test_the_guard_names_the_heuristic_as_fallback() -> None:
    guard = Guard(Acts(plan()), CLUSTER)
    assert guard.act is not None and guard.fallback_name == "HazardIndex"
    assert guard.rules is guard.policy.rules
    guard.close()


def test_an_event_policy_steers_real_models(make_model: MakeModel) -> None:
    models = [make_model("gpt", GPT, 1), make_model("cnn", CNN, 2)]
    policy = Acts(plan(multiplier=0.5, variant=0))
    result = play(models, 4, 60.0, policy=policy)
    assert result.errors == (None,) * 150
    assert result.guard.events > 20 and policy.calls > 20
    assert result.ledger_gap_bytes == 0


@pytest.mark.parametrize("answer", [plan(multiplier=np.nan), RuntimeError("bad"), 0.2])
def test_under_a_bad_event_policy_every_request_is_served(
    make_model: MakeModel, answer: object
) -> None:
    result = play([make_model("cnn", CNN, 2)], 4, 30.0, policy=Acts(answer))
    assert result.errors == (None,) * 75
    assert result.guard.fallbacks.total() == result.guard.events > 10
    assert result.fallback == "HazardIndex"


def test_a_worker_killed_under_an_event_policy_costs_the_requests_in_flight_only(
    make_model: MakeModel,
) -> None:
    killed: list[int] = []

    def kill(backend: TorchBackend) -> None:
        if not killed:
            killed.append(backend.workers[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    tell: Callable[[TorchBackend], None] = kill
    model = make_model("slow", GPT, 0, width=64, layers=4)
    policy = Acts(plan(variant=0))
    result = play([model], 2, 150.0, backend=True, progress=tell, policy=policy)
    failed = [i for i, error in enumerate(result.errors) if error]
    assert killed and 1 <= len(failed) < 60
    assert all("worker of device 0 died" in (result.errors[i] or "") for i in failed)
    assert np.isfinite(result.latency_s[-20:]).all()
    assert result.ledger_gap_bytes == 0
