"""A policy that is asked at events: what it said, or why that is of no use.

In shadow nobody waits for it: questions are put, and their answers collected at a later one.

Shapes: N decisions, K columns.  Units: seconds.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.runtime.budgeted import Budgeted, Question
from stoker.runtime.seen import Seen
from stoker.runtime.steering import Steering

KEPT_OBSERVATIONS = 256
"""Of the last decisions: a policy that is to take over is asked about them first."""
MOST_PUT = 64
"""Questions that may wait for an answer in shadow; a policy that falls further behind is slow."""
Observation = NDArray[np.float32]
Ended = tuple[Any, Any, str, float]
"""What a question was about, the answer or None, why there is none, how long it took."""


class Consultation:
    """Asks one policy within its budget, and keeps count.

    Args:
        steering: who is at the helm.
        fault: says what is wrong with an answer about an observation; empty if nothing is.
    """

    def __init__(self, steering: Steering, fault: Callable[[Any, Observation], str]) -> None:
        self.kept: deque[Observation] = deque(maxlen=KEPT_OBSERVATIONS)
        self._steering, self._fault = steering, fault
        self._put: deque[tuple[Any, Question]] = deque()

    def take(self, function: Callable[..., Any], seen: Seen | None) -> None:
        """Ask this one from now on; its training saw `seen`, if that is known."""
        self._policy, self._seen = Budgeted(function), seen

    def warm(self, budget_s: float, observation: Observation, *more: Any) -> None:
        """Ask once for nothing, so that it may load and compile."""
        self._policy.ask(budget_s, observation, *more)

    def close(self) -> None:
        """Let the policy's thread end; in shadow it may finish what it was asked."""
        self._policy.close(self._steering.settings.budget_s if self._put else 0.0)

    def ask(
        self, observation: Observation, *more: Any, budget_s: float | None = None
    ) -> tuple[Any, str, float]:
        """Return the answer or None, why there is none, and how long it took. Shape: (N, K)"""
        began = time.perf_counter()
        reason, question = self._look(observation), None
        if not reason:
            limit_s = self._steering.settings.event_budget_s if budget_s is None else budget_s
            question, reason = self._policy.ask(limit_s, observation, *more)
        return self._judge(question, reason, observation, time.perf_counter() - began)

    def put(self, about: Any, observation: Observation, *more: Any) -> Ended | None:
        """Ask without waiting; what ends at once is returned. Shape: (N, K)"""
        reason = self._look(observation)
        if not reason and len(self._put) >= MOST_PUT:
            reason = "slow"
        if reason:
            return (about, *self._judge(None, reason, observation, 0.0))
        self._put.append((about, self._policy.put(observation, *more)))
        return None

    def ended(self) -> Iterator[Ended]:
        """Take the questions put that have been answered, in their order."""
        while self._put and self._put[0][1].done.is_set():
            about, question = self._put.popleft()
            late = question.seconds > self._steering.settings.event_budget_s
            reason = "raised" if question.error else "slow" if late else ""
            yield (about, *self._judge(question, reason, question.arguments[0], question.seconds))

    def _look(self, observation: Observation) -> str:
        self.kept.extend(observation)
        if self._seen is None:
            return ""
        share = float(self._seen.outside(observation).max())
        return "unseen" if share > self._steering.settings.max_unseen else ""

    def _judge(
        self, question: Question | None, reason: str, observation: Observation, seconds: float
    ) -> tuple[Any, str, float]:
        steering, answer = self._steering, None
        if question is not None:
            steering.counts.last_error = question.error or steering.counts.last_error
            answer = question.answer
            reason = reason or self._fault(answer, observation)
        if reason:
            steering.bad(reason)
            return None, reason, seconds
        steering.good()
        steering.counts.seconds.append(seconds)
        return answer, "", seconds
