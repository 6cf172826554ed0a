"""Stands between a policy and the cluster: late, raising or senseless, it is replaced at once.

Each time that the policy does not give a usable decision within its budget, a named fallback
decides instead, keeps the helm for a while (breaker.py), and the reason is counted. Stale figures,
observations unlike those of training and SLO burn cost the policy the helm likewise. The mode says
how much it steers in the first place.

Shapes: F functions.  Units: seconds.
"""

from __future__ import annotations

import math
import time
from dataclasses import fields, replace

import numpy as np

from stoker.baselines.base import Policy
from stoker.baselines.hazard import HazardIndex
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.live_rules import check_switch
from stoker.envs.cluster.policy_like import BatchedLike
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster.tick_observer import by_function
from stoker.runtime.batch_guard import BatchGuard
from stoker.runtime.clock import Clock, RealClock
from stoker.runtime.counts import GuardCounts
from stoker.runtime.decision_log import DecisionLog
from stoker.runtime.event_guard import Act, EventGuard
from stoker.runtime.guard_settings import ACTIVE, CANARY, GuardSettings
from stoker.runtime.keep_all import KeepAll
from stoker.runtime.orders import TwoVoices, initial, overlay
from stoker.runtime.planner import Planner
from stoker.runtime.seen import Seen
from stoker.runtime.steering import Steering
from stoker.runtime.tick_thread import TickThread, fault

EVENT_STRIKES = 3
"""Events come in their hundreds: one slow answer among them is no reason to change who steers."""

LEAST_RETRY_S = 1.0
"""A policy that decides once and for all is tried again no sooner, should it have failed."""


class GuardedBatches(Policy):
    """A policy of batches as the planner sees it: its sizes, the guard's decisions."""

    def __init__(self, policy: BatchedLike, batches: BatchGuard) -> None:
        self.rules, self.tick_s = policy.rules, policy.tick_s
        self.sizes, self.wait_share, self.batches = policy.sizes, policy.wait_share, batches


class Guard:
    """Asks a policy, within a time budget, and a fallback where that fails.

    Args:
        policy: under guard.
        cluster: that the decisions are for.
        fallback: a policy that cannot fail; None = for an event policy the heuristic that its rules
            rest on, else KeepAll.
        settings: how far the policy is trusted.
        log: of every decision, or None.

    Raises:
        SpecError: the fallback's rules cannot take over from the policy's while requests run.
    """

    def __init__(
        self,
        policy: Policy,
        cluster: Cluster,
        fallback: Policy | None = None,
        settings: GuardSettings | None = None,
        log: DecisionLog | None = None,
    ) -> None:
        self.policy, self.cluster, self._log = policy, cluster, log
        self.settings = settings or GuardSettings()
        act = getattr(policy, "act", None)
        if fallback is None:
            fallback = HazardIndex() if act is not None else KeepAll()
        self.fallback = fallback
        self._fallback_rules = self._rules_of(fallback)
        check_switch(policy.rules, self._fallback_rules, "guard.fallback.rules")
        if self.settings.mode == CANARY and self._fallback_rules.plan != policy.rules.plan:
            accepted = f"{policy.rules.plan} (the policy's: a canary shares the cluster's rules)"
            raise SpecError("guard.fallback.rules.plan", self._fallback_rules.plan, accepted)
        names = [f.name for f in cluster.functions]
        self._at_events = act is not None or isinstance(policy, BatchedLike)
        strikes = EVENT_STRIKES if self._at_events else 1
        self.steering = Steering(self.settings, names, strikes, RealClock())
        self._voices = TwoVoices(cluster, self.steering.chosen)
        self.policy.reset(cluster, 1)
        self.fallback.reset(cluster, 1)
        self._last_resort = KeepAll()
        self._last_resort.reset(cluster, 1)
        self._seen = Seen.of(policy)
        self._thread = TickThread(policy)
        self._obeyed: bool | None = None  # who steered when orders were given last
        self._due_s = [-math.inf, -math.inf]  # policy, fallback
        self.events: EventGuard | None = None
        if act is not None:
            self.events = EventGuard(act, self.steering, self._seen, log)
        self.batches: BatchGuard | None = None
        if isinstance(policy, BatchedLike):
            seen = Seen.of(policy.batches)
            self.batches = BatchGuard(policy.batches, self.steering, seen, log)

    def _rules_of(self, fallback: Policy) -> Rules:
        """Rules under which the fallback decides."""
        if isinstance(fallback, KeepAll):
            return replace(self.policy.rules, plan="decision")
        if isinstance(fallback, HazardIndex) and hasattr(self.policy, "act"):
            return self.policy.rules  # the heuristic is this policy's own starting point
        return fallback.rules

    def attend(self, planner: Planner, clock: Clock) -> None:
        """Serve this planner, by this clock."""
        self.steering.clock = clock
        planner.observe(self.policy)
        if self.events is not None:
            self.events.whose = lambda: np.array([planner.pending], np.int64)

    @property
    def counts(self) -> GuardCounts:
        """What happened so far."""
        return self.steering.counts

    @property
    def fallback_name(self) -> str:
        """Who decides when the policy does not."""
        return type(self.fallback).__name__

    @property
    def act(self) -> Act | None:
        """The guarded decision at an idle event, for the planner; None for a policy of ticks."""
        return self.events.act if self.events is not None else None

    @property
    def batched(self) -> BatchedLike | None:
        """The guarded decisions on batches, for the planner; None for other policies."""
        if self.batches is None or not isinstance(self.policy, BatchedLike):
            return None
        return GuardedBatches(self.policy, self.batches)

    @property
    def rules(self) -> Rules:
        """Those that are to be in force now."""
        steers = self.steering.steers and not self.steering.canary
        return self.policy.rules if steers else self._fallback_rules

    @property
    def changed(self) -> bool:
        """Whether the helm has changed hands since orders were given last."""
        return self._obeyed != self.steering.steers

    @property
    def tick_s(self) -> float:
        """How often somebody wants to be asked, or may be tried again."""
        once = not self._at_events and math.isinf(self.policy.tick_s)
        again_s = max(self.settings.hold_s, LEAST_RETRY_S) if once else math.inf
        return min(self.policy.tick_s, self.fallback.tick_s, again_s)

    def close(self) -> None:
        """Let the policy's thread end."""
        for guard in (self.events, self.batches):
            if guard is not None:
                guard.close()

    def take(self, policy: Policy) -> None:
        """Guard this policy from now on, in place of the one before (see reload.py)."""
        check_switch(self.policy.rules, policy.rules, "policy.rules")
        self.policy, self._seen = policy, Seen.of(policy)
        self._fallback_rules = self._rules_of(self.fallback)
        self._thread = TickThread(policy)
        self._due_s[0] = -math.inf
        if self.events is not None:
            self.events.close()
            self.events.take(policy.act, self._seen)  # type: ignore[attr-defined]
        if self.batches is not None and isinstance(policy, BatchedLike):
            self.batches.close()
            self.batches.take(policy.batches, Seen.of(policy.batches))
        self.counts.reloads += 1

    def lagged(self, late_s: float) -> None:
        """The controller's loop stood still for so long: what it knew in between is stale."""
        if late_s > self.settings.max_age_s:
            self.steering.trip("stale")

    def ended(self, fn: int, latency_s: float) -> None:
        """A request of fn was answered; inf = it was refused or has failed."""
        late = latency_s > self.cluster.functions[fn].slo_s
        self.steering.ended(fn, late or math.isinf(latency_s))

    # TICKS

    async def decide(self, snapshot: Snapshot) -> Decision | None:
        """Return the policy's decision, or the fallback's; None: what stands, stands."""
        # The arrays may be views of tables that change while the policy thinks.
        snapshot = Snapshot(
            **{f.name: np.array(getattr(snapshot, f.name)) for f in fields(Snapshot)}
        )
        said, why, seconds = None, "", 0.0
        out = self._obeyed is not None and not (self.steering.steers or self.steering.shadow)
        if asked := self._is_due(0, self.policy.tick_s) or (out and not self._at_events):
            self.counts.decisions += 1
            why = self.steering.refusal()
            if not why:
                said, why, seconds = await self._consult(snapshot)
        elif self.steering.steers and not (self.steering.canary or self.changed):
            return None
        chosen = self.orders(snapshot, said)
        if asked and self._log is not None:
            why = why or (self.settings.mode if self.settings.mode != ACTIVE else "")
            self._log.tick(self.steering, snapshot, (said, chosen), why, seconds)
        return chosen

    async def _consult(self, snapshot: Snapshot) -> tuple[Decision | None, str, float]:
        """Return the policy's decision, why it is of no use, and how long it took."""
        settings, began = self.settings, time.perf_counter()
        late_s = self.steering.clock.now() - float(snapshot.now_s[0])
        if float(snapshot.age_s[0]) + max(late_s, 0.0) > settings.max_age_s:
            self.steering.trip("stale")
            return None, "stale", 0.0
        decision, reason = None, self._unseen(snapshot)
        if not reason:
            first = self.counts.decisions == 1
            budget_s = max(settings.first_budget_s, settings.budget_s)
            decision, reason = await self._thread.ask(
                snapshot, budget_s if first else settings.budget_s
            )
            reason = reason or fault(decision, len(self.cluster.functions))
        seconds = time.perf_counter() - began
        if reason:
            self.counts.last_error = self._thread.error or self.counts.last_error
            self.steering.bad(reason)
            return None, reason, seconds
        self.steering.good()
        self.counts.seconds.append(seconds)
        return decision, "", seconds

    def _unseen(self, snapshot: Snapshot) -> str:
        if self._seen is None or not self.policy.observes:
            return ""
        share = float(self._seen.outside(by_function(snapshot.observation)).mean())
        return "unseen" if share > self.settings.max_unseen else ""

    def orders(self, snapshot: Snapshot, said: Decision | None = None) -> Decision:
        """Return what stands from now on, the policy having said `said`.

        Whoever takes the helm finds the orders as they were at first, not as the other left them;
        a compiled plan that goes on leaves them where they are.
        """
        steers, changed = self.steering.steers, self.changed
        first, self._obeyed = self._obeyed is None, steers
        usual = Decision()
        if not steers or self.steering.canary:
            due = self._is_due(1, self.fallback.tick_s)
            if due or changed:
                usual = self._fall_back(snapshot)
        chosen = usual
        if steers:
            chosen = said or Decision()
            if self.steering.canary:
                chosen = self._voices.merge(chosen, usual)
        plans = (self.policy.rules.plan, self._fallback_rules.plan)
        if changed and not first and not (plans[0] == plans[1] != "decision"):
            chosen = overlay(initial(self.cluster), chosen)
        return chosen

    def _fall_back(self, snapshot: Snapshot) -> Decision:
        """Return the fallback's decision; should it fail too, what is loaded stays.

        Nobody stands behind it, so it is waited for; one that takes longer than the policy may
        holds up every request, and is counted.
        """
        began = time.perf_counter()
        try:
            return self.fallback.decide(snapshot)
        except Exception as error:
            self.counts.fallbacks["fallback_raised"] += 1
            self.counts.last_error = f"{type(error).__name__}: {error}"
            return self._last_resort.decide(snapshot)
        finally:
            if time.perf_counter() - began > self.settings.budget_s:
                self.counts.fallbacks["fallback_slow"] += 1

    def _is_due(self, who: int, tick_s: float) -> bool:
        """Whether one of the two wants to be asked now; ticks come a little early or late."""
        now_s = self.steering.clock.now()
        if now_s < self._due_s[who]:
            return False
        self._due_s[who] = now_s + tick_s - (0.5 * self.tick_s if math.isfinite(tick_s) else 0.0)
        return True


__all__ = ["Guard", "GuardCounts", "GuardSettings", "KeepAll"]
