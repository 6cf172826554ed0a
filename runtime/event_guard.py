"""Stands between an event policy and the planner, which asks it in the middle of a step.

The policy runs on a thread of its own and has a time budget; late, raising, senseless or asked
about what it has never seen, it is replaced by the heuristic that the event rules rest on, and the
reason is counted.  `act` never raises.

Shapes: N decisions, K features, E experts.  Units: seconds.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.decision import IdlePlan
from stoker.envs.cluster.observe import K
from stoker.envs.cluster.tables import EXPERTS
from stoker.envs.function_view import VARIANTS, own_history
from stoker.runtime.breaker import TRIAL
from stoker.runtime.budgeted import Budgeted
from stoker.runtime.decision_log import DecisionLog
from stoker.runtime.guard_settings import CANARY, SHADOW
from stoker.runtime.seen import Seen
from stoker.runtime.steering import Mask, Steering

MIX_TOLERANCE = 1e-3
KEPT_OBSERVATIONS = 256
"""Of the last decisions: a policy that is to take over is asked about them first."""
Act = Callable[[NDArray[np.float32]], IdlePlan]
Whose = Callable[[], NDArray[np.int64]]


def heuristic(observation: NDArray[np.float32]) -> IdlePlan:
    """Leave the hazard index as it is. Shape: (N, K)"""
    n = len(observation)
    return IdlePlan(own_history(observation), np.ones(n), np.zeros(n, np.int64))


class EventGuard:
    """Asks an event policy within a time budget, and `heuristic` where that fails.

    Args:
        act: the policy's; asked once at the start, to load and compile what it needs.
        steering: who is at the helm.
        seen: the observations of its training; None = not known.
        log: of the decisions, or None.
    """

    def __init__(
        self, act: Act, steering: Steering, seen: Seen | None, log: DecisionLog | None = None
    ) -> None:
        self.whose: Whose = lambda: np.zeros(1, np.int64)
        """The functions that the planner asks about."""
        self.kept: deque[NDArray[np.float32]] = deque(maxlen=KEPT_OBSERVATIONS)
        self._steering, self._log = steering, log
        self.take(act, seen)

    def take(self, act: Act, seen: Seen | None) -> None:
        """Ask this policy from now on."""
        self._seen = seen
        self._policy = Budgeted(act)
        self._policy.ask(self._steering.settings.first_budget_s, np.zeros((1, K), np.float32))

    def close(self) -> None:
        """Let the policy's thread end."""
        self._policy.close()

    def act(self, observation: NDArray[np.float32]) -> IdlePlan:
        """Return the policy's plan where it steers, else the heuristic's. Shape: (N, K)"""
        steering = self._steering
        steering.counts.events += 1
        # The planner reuses the array: a policy that is late must not see it change.
        observation, functions = observation.copy(), self.whose()
        steers, mine = steering.steers, steering.chosen[functions]
        why = CANARY if steering.canary and not mine.any() else steering.refusal()
        plan, seconds = None, 0.0
        if not why:
            plan, why, seconds = self._consult(observation)
        # A trial is only listened to: the rules in force are still the fallback's.
        mine = mine & (not why and steers)
        if plan is not None and self._log is None and mine.all():
            return plan
        usual = heuristic(observation)
        chosen = _blend(mine, plan, usual) if plan is not None else usual
        if self._log is not None:
            aside = SHADOW if steering.shadow else CANARY if steers else TRIAL
            why = why or ("" if mine.all() else aside)
            self._log.events(steering, functions, observation, (plan, usual), mine, why, seconds)
        return chosen

    def _consult(self, observation: NDArray[np.float32]) -> tuple[IdlePlan | None, str, float]:
        """Return the policy's plan, why it is of no use, and how long it took."""
        steering = self._steering
        began = time.perf_counter()
        plan, reason = None, ""
        if self._seen is not None:
            share = float(self._seen.outside(observation).max())
            reason = "unseen" if share > steering.settings.max_unseen else ""
        if not reason:
            plan, reason = self._policy.ask(steering.settings.event_budget_s, observation)
            steering.counts.last_error = self._policy.error or steering.counts.last_error
            reason = reason or fault(plan, len(observation))
        seconds = time.perf_counter() - began
        self.kept.extend(observation)
        if reason:
            steering.bad(reason)
            return None, reason, seconds
        steering.good()
        steering.counts.seconds.append(seconds)
        return plan, "", seconds


def _blend(mine: Mask, plan: IdlePlan, usual: IdlePlan) -> IdlePlan:
    """The plan for the functions of the mask, the usual one for the others. Shape: (N,)"""
    if mine.all():
        return plan
    return IdlePlan(
        np.where(mine[:, None], plan.mix, usual.mix),
        np.where(mine, plan.multiplier, usual.multiplier),
        np.where(mine, plan.variant, usual.variant),
    )


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
