"""Stands between a policy of batches and the planner, which asks it wherever a batch may start.

Late, raising, out of range or asked about what it has never seen, it is replaced by the rule that
never waits nor refuses: run all that stand in the queue, as far as one batch goes. `decide` never
raises.

Shapes: K features, W places of a queue, Z batch sizes.  Units: seconds.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.batch_policy import run_up_to
from stoker.envs.cluster.batch_due import Due
from stoker.envs.cluster.batching import RUN
from stoker.envs.cluster.policy_like import DecidesBatches
from stoker.runtime.breaker import TRIAL
from stoker.runtime.consultation import Consultation, Ended
from stoker.runtime.decision_log import DecisionLog
from stoker.runtime.guard_settings import CANARY, SHADOW
from stoker.runtime.seen import Seen
from stoker.runtime.steering import Steering

Actions = NDArray[np.int64]
At = tuple[float, int, NDArray[np.float32], int]
"""A decision on record: time, function, observation (of shape (K,)), the usual action."""


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
        self._policy = Consultation(steering, lambda action, seen: fault(action, self._sizes))
        self._sizes = 0
        self.take(batches, seen)

    @property
    def kept(self) -> list[NDArray[np.float32]]:
        """The last observations. Each of shape (K,)"""
        return list(self._policy.kept)

    def take(self, batches: DecidesBatches, seen: Seen | None) -> None:
        """Ask this policy from now on."""
        self._policy.take(batches.decide, seen)
        self._first = True

    def close(self) -> None:
        """Let the policy's thread end."""
        self._policy.close()
        self._report()

    def decide(self, observation: NDArray[np.float32], due: Due) -> Actions:
        """Return the policy's action where it steers, else the usual one. Shapes: (1, K), (1,)"""
        steering = self._steering
        steering.counts.events += 1
        self._sizes = len(due.sizes)
        # The planner reuses the arrays: a policy that is late must not see them change.
        observation, due = observation.copy(), _copy(due)
        fn, usual = int(due.function[0]), run_up_to(due, due.max_batch)
        at = (steering.clock.now(), fn, observation[0], int(usual[0]))
        if steering.shadow:
            self._listen(at, observation, due)
            return usual
        steers, mine = steering.steers, bool(steering.chosen[fn])
        why = CANARY if steering.canary and not mine else steering.refusal()
        said, seconds = None, 0.0
        if not why:
            budget_s = steering.settings.first_budget_s if self._first else None
            said, why, seconds = self._policy.ask(observation, due, budget_s=budget_s)
            self._first = False
        mine = mine and not why and steers
        self._book((at, said, why or ("" if mine else TRIAL), seconds), mine)
        return np.asarray(said, np.int64) if mine else usual

    def _listen(self, at: At, observation: NDArray[np.float32], due: Due) -> None:
        """Put the question, and book the answers to earlier ones: nobody waits for them."""
        self._report()
        if why := self._steering.refusal():
            self._book((at, None, why, 0.0), False)
        elif (ended := self._policy.put(at, observation, due)) is not None:
            self._book(ended, False)

    def _report(self) -> None:
        for at, said, why, seconds in self._policy.ended():
            self._book((at, said, why or SHADOW, seconds), False)

    def _book(self, ended: Ended, mine: bool) -> None:
        at, said, why, seconds = ended
        if self._log is not None:
            said = None if said is None else int(np.asarray(said)[0])
            self._log.batch(self._steering, at, said, mine, why, seconds)


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
