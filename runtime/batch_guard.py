"""Stands between a policy of batches and the planner, which asks it wherever a batch may start.

Late, raising, out of range or asked about what it has never seen, it is replaced by the rule that
never waits nor refuses: run all that stand in the queue, as far as one batch goes. `decide` never
raises.

Shapes: K features, W places of a queue, Z batch sizes.  Units: seconds.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.batch_policy import run_up_to
from stoker.envs.cluster.batch_due import Due
from stoker.envs.cluster.batching import RUN
from stoker.envs.cluster.policy_like import DecidesBatches
from stoker.runtime.breaker import TRIAL
from stoker.runtime.budgeted import Budgeted
from stoker.runtime.decision_log import DecisionLog
from stoker.runtime.event_guard import KEPT_OBSERVATIONS
from stoker.runtime.guard_settings import CANARY, SHADOW
from stoker.runtime.seen import Seen
from stoker.runtime.steering import Steering

Actions = NDArray[np.int64]


class BatchGuard:
    """Asks a policy of batches within a time budget, and `run_up_to` the limit where that fails.

    Args:
        batches: the policy's.
        steering: who is at the helm.
        seen: the observations of its training; None = not known.
        log: of the decisions, or None.
    """

    def __init__(
        self,
        batches: DecidesBatches,
        steering: Steering,
        seen: Seen | None,
        log: DecisionLog | None = None,
    ) -> None:
        self._steering, self._log = steering, log
        self.kept: deque[NDArray[np.float32]] = deque(maxlen=KEPT_OBSERVATIONS)
        self._first = True
        self.take(batches, seen)

    def take(self, batches: DecidesBatches, seen: Seen | None) -> None:
        """Ask this policy from now on."""
        self._policy, self._seen = Budgeted(batches.decide), seen
        self._first = True

    def close(self) -> None:
        """Let the policy's thread end."""
        self._policy.close()

    def decide(self, observation: NDArray[np.float32], due: Due) -> Actions:
        """Return the policy's action where it steers, else the usual one. Shapes: (1, K), (1,)"""
        steering = self._steering
        steering.counts.events += 1
        # The planner reuses the arrays: a policy that is late must not see them change.
        observation, due = observation.copy(), _copy(due)
        fn = int(due.function[0])
        steers, mine = steering.steers, bool(steering.chosen[fn])
        why = CANARY if steering.canary and not mine else steering.refusal()
        said, seconds = None, 0.0
        if not why:
            said, why, seconds = self._consult(observation, due)
        mine = mine and not why and steers
        usual = run_up_to(due, due.max_batch)
        if self._log is not None:
            why = why or ("" if mine else SHADOW if steering.shadow else TRIAL)
            actions = (None if said is None else int(said[0]), int(usual[0]))
            self._log.batch(steering, fn, observation[0], actions, mine, why, seconds)
        return said if said is not None and mine else usual

    def _consult(
        self, observation: NDArray[np.float32], due: Due
    ) -> tuple[Actions | None, str, float]:
        """Return the policy's action, why it is of no use, and how long it took."""
        steering = self._steering
        settings, began = steering.settings, time.perf_counter()
        said, reason = None, ""
        if self._seen is not None:
            share = float(self._seen.outside(observation).max())
            reason = "unseen" if share > settings.max_unseen else ""
        if not reason:
            budget_s = settings.first_budget_s if self._first else settings.event_budget_s
            said, reason = self._policy.ask(budget_s, observation, due)
            self._first = False
            steering.counts.last_error = self._policy.error or steering.counts.last_error
            reason = reason or fault(said, len(due.sizes))
        seconds = time.perf_counter() - began
        self.kept.extend(observation)
        if reason:
            steering.bad(reason)
            return None, reason, seconds
        steering.good()
        steering.counts.seconds.append(seconds)
        return np.asarray(said, np.int64), "", seconds


def fault(action: object, sizes: int) -> str:
    """Say what is wrong with an action on one batch; empty if nothing is."""
    try:
        array = np.asarray(action, np.float64)
    except (TypeError, ValueError):
        return "malformed"
    if array.shape != (1,):
        return "malformed"
    if np.isnan(array[0]):
        return "nan"
    legal = array[0] == np.floor(array[0]) and 0 <= array[0] < RUN + sizes
    return "" if legal else "illegal"


def _copy(due: Due) -> Due:
    return Due(**{f.name: np.array(getattr(due, f.name)) for f in fields(Due)})
