"""Stands between an event policy and the planner, which asks it in the middle of a step.

The policy runs on a thread of its own and has a time budget; late, raising, senseless or asked
about what it has never seen, it is replaced by the heuristic that the event rules rest on, and the
reason is counted.  `act` never raises.

Shapes: N decisions, K features, E experts.  Units: seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.decision import IdlePlan
from stoker.envs.cluster.observe import K
from stoker.envs.cluster.tables import EXPERTS
from stoker.envs.function_view import VARIANTS, own_history
from stoker.runtime.breaker import TRIAL
from stoker.runtime.consultation import Consultation, Ended
from stoker.runtime.decision_log import DecisionLog
from stoker.runtime.guard_settings import CANARY, SHADOW
from stoker.runtime.seen import Seen
from stoker.runtime.steering import Mask, Steering

MIX_TOLERANCE = 1e-3
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
        self._steering, self._log = steering, log
        self._policy = Consultation(steering, lambda plan, seen: fault(plan, len(seen)))
        self.take(act, seen)

    @property
    def kept(self) -> list[NDArray[np.float32]]:
        """The last observations. Each of shape (K,)"""
        return list(self._policy.kept)

    def take(self, act: Act, seen: Seen | None) -> None:
        """Ask this policy from now on."""
        self._policy.take(act, seen)
        first_s = self._steering.settings.first_budget_s
        self._policy.warm(first_s, np.zeros((1, K), np.float32))

    def close(self) -> None:
        """Let the policy's thread end."""
        self._policy.close()
        self._report()

    def act(self, observation: NDArray[np.float32]) -> IdlePlan:
        """Return the policy's plan where it steers, else the heuristic's. Shape: (N, K)"""
        steering = self._steering
        steering.counts.events += 1
        # The planner reuses the array: a policy that is late must not see it change.
        observation, functions = observation.copy(), self.whose()
        if steering.shadow:
            self._listen(functions, observation)
            return heuristic(observation)
        steers, mine = steering.steers, steering.chosen[functions]
        why = CANARY if steering.canary and not mine.any() else steering.refusal()
        plan, seconds = None, 0.0
        if not why:
            plan, why, seconds = self._policy.ask(observation)
        # A trial is only listened to: the rules in force are still the fallback's.
        mine = mine & (not why and steers)
        if plan is not None and self._log is None and mine.all():
            return plan  # type: ignore[no-any-return]
        usual = heuristic(observation)
        if self._log is not None:
            why = why or ("" if mine.all() else CANARY if steers else TRIAL)
            at = (steering.clock.now(), functions, observation)
            self._log.events(steering, at, (plan, usual), mine, why, seconds)
        return usual if plan is None else _blend(mine, plan, usual)

    def _listen(self, functions: NDArray[np.int64], observation: NDArray[np.float32]) -> None:
        """Put the question, and book the answers to earlier ones: nobody waits for them."""
        self._report()
        at = (self._steering.clock.now(), functions, observation)
        if why := self._steering.refusal():
            self._book((at, None, why, 0.0))
        elif (ended := self._policy.put(at, observation)) is not None:
            self._book(ended)

    def _report(self) -> None:
        for ended in self._policy.ended():
            self._book(ended)

    def _book(self, ended: Ended) -> None:
        at, plan, why, seconds = ended
        if self._log is not None:
            nobody = np.zeros(len(at[1]), bool)
            plans = (plan, heuristic(at[2]))
            self._log.events(self._steering, at, plans, nobody, why or SHADOW, seconds)


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
