"""Stands between an event policy and the planner, which asks it in the middle of a step.

The policy runs on a thread of its own and has a time budget; late, raising or senseless, it is
replaced by the heuristic that the event rules rest on, and the reason is counted.  `act` never
raises.

Shapes: N decisions, K features, E experts.  Units: seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.decision import IdlePlan
from stoker.envs.cluster.observe import K
from stoker.envs.cluster.tables import EXPERTS
from stoker.envs.function_view import VARIANTS, own_history
from stoker.runtime.counts import GuardCounts

FALLBACK = "HazardIndex"
"""What the plan of `heuristic` amounts to."""
MIX_TOLERANCE = 1e-3
Act = Callable[[NDArray[np.float32]], IdlePlan]


def heuristic(observation: NDArray[np.float32]) -> IdlePlan:
    """Leave the hazard index as it is. Shape: (N, K)."""
    n = len(observation)
    return IdlePlan(own_history(observation), np.ones(n), np.zeros(n, np.int64))


class _Question:
    """One call of the policy, and its answer once `done` is set."""

    def __init__(self, observation: NDArray[np.float32]) -> None:
        self.observation = observation
        self.done = threading.Event()
        self.plan: Any = None
        self.error: BaseException | None = None


class EventGuard:
    """Asks an event policy within a time budget, and `heuristic` where that fails.

    While an answer that is overdue is still being computed the policy is not asked again.

    Args:
        act: the policy's; asked once at the start, to load and compile what it needs.
        counts: where to book.
        budget_s: time for one decision; the planner waits for it.
        first_budget_s: time for the call at the start.
    """

    def __init__(
        self, act: Act, counts: GuardCounts, budget_s: float, first_budget_s: float
    ) -> None:
        self.counts = counts
        self._budget_s = budget_s
        self._overdue: _Question | None = None
        self._questions: SimpleQueue[_Question | None] = SimpleQueue()
        thread = threading.Thread(target=_serve, args=(act, self._questions), daemon=True)
        thread.start()
        self._ask(np.zeros((1, K), np.float32), first_budget_s)

    def close(self) -> None:
        """Let the policy's thread end."""
        self._questions.put(None)

    def act(self, observation: NDArray[np.float32]) -> IdlePlan:
        """Return the policy's plan, or the heuristic's. Shape: (N, K)."""
        self.counts.events += 1
        began = time.perf_counter()
        # The planner reuses the array: a policy that is late must not see it change.
        plan, reason = self._ask(observation.copy(), self._budget_s)
        reason = reason or fault(plan, len(observation))
        if reason:
            self.counts.fallbacks[reason] += 1
            return heuristic(observation)
        self.counts.seconds.append(time.perf_counter() - began)
        chosen: IdlePlan = plan
        return chosen

    def _ask(self, observation: NDArray[np.float32], budget_s: float) -> tuple[Any, str]:
        if self._overdue is not None and not self._overdue.done.is_set():
            return None, "slow"
        question = _Question(observation)
        self._questions.put(question)
        if not question.done.wait(budget_s):
            self._overdue = question
            return None, "slow"
        if question.error is not None:
            self.counts.last_error = f"{type(question.error).__name__}: {question.error}"
            return None, "raised"
        return question.plan, ""


def fault(plan: object, n: int) -> str:
    """Say what is wrong with a plan for n decisions; empty if nothing is."""
    if not isinstance(plan, IdlePlan):
        return "malformed"
    try:
        mix = np.asarray(plan.mix, np.float64)
        multiplier = np.asarray(plan.multiplier, np.float64)
        variant = np.asarray(plan.variant, np.float64)
    except (TypeError, ValueError):
        return "malformed"
    if mix.shape != (n, EXPERTS) or multiplier.shape != (n,) or variant.shape != (n,):
        return "malformed"
    if not all(np.isfinite(part).all() for part in (mix, multiplier, variant)):
        return "nan"
    whole = np.abs(mix.sum(axis=1) - 1.0) <= MIX_TOLERANCE
    known = np.isin(variant, np.arange(VARIANTS))
    legal = whole.all() and (mix >= 0.0).all() and (multiplier > 0.0).all() and known.all()
    return "" if legal else "illegal"


def _serve(act: Act, questions: SimpleQueue[_Question | None]) -> None:
    while (question := questions.get()) is not None:
        try:
            question.plan = act(question.observation)
        except BaseException as error:
            question.error = error
        question.done.set()
