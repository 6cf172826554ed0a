"""Stands between a policy and the cluster: late, raising or senseless, it is replaced at once.

Each time that the policy does not give a usable decision within its budget, a named fallback
decides instead, and the reason is counted.  Units: seconds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import fields
from typing import Any

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import PER_FUNCTION, Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster
from stoker.runtime.counts import GuardCounts
from stoker.runtime.event_guard import FALLBACK, Act, EventGuard

__all__ = ["Guard", "GuardCounts", "KeepAll"]


class KeepAll(Policy):
    """Keep what is loaded until memory is short; load on demand: safe on any cluster."""

    tick_s = float("inf")

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Take the shape of the cluster."""
        self._shape = (rows, len(cluster.functions))

    def decide(self, snapshot: Snapshot) -> Decision:
        """Let eviction decide."""
        return Decision(
            keep_alive_s=np.full(self._shape, np.inf),
            host_keep_alive_s=np.full(self._shape, np.inf),
            prewarm=np.zeros(self._shape, np.int32),
            prewarm_after_s=np.full(self._shape, np.inf),
        )


class Guard:
    """Asks a policy, within a time budget, and a fallback where that fails.

    The policy runs on a thread of its own, so a slow one delays nobody.  While an answer that is
    overdue is still being computed the policy is not asked again.

    Args:
        policy: under guard.
        cluster: that the decisions are for.
        fallback: a policy that cannot fail; None = KeepAll.
        budget_s: time for one decision.
        first_budget_s: time for the first, before anything is served: it may load or compile.
        event_budget_s: time for one decision of an event policy; the planner waits for it.
    """

    def __init__(
        self,
        policy: Policy,
        cluster: Cluster,
        fallback: Policy | None = None,
        budget_s: float = 0.1,
        first_budget_s: float = 10.0,
        event_budget_s: float = 0.02,
    ) -> None:
        for name, value in (("budget_s", budget_s), ("event_budget_s", event_budget_s)):
            if not value > 0.0:
                raise SpecError(f"guard.{name}", value, "a time > 0")
        self.policy = policy
        self.fallback = fallback if fallback is not None else KeepAll()
        self.counts = GuardCounts()
        self._budget_s = budget_s
        self._first_budget_s = max(first_budget_s, budget_s)
        self._shape = (1, len(cluster.functions))
        self._overdue: asyncio.Future[Decision] | None = None
        self.policy.reset(cluster, 1)
        self.fallback.reset(cluster, 1)
        act = getattr(policy, "act", None)
        self.events: EventGuard | None = None
        if act is not None:
            self.events = EventGuard(act, self.counts, event_budget_s, self._first_budget_s)

    @property
    def fallback_name(self) -> str:
        """Who decides when the policy does not."""
        return FALLBACK if self.events is not None else type(self.fallback).__name__

    @property
    def act(self) -> Act | None:
        """The guarded decision at an idle event, for the planner; None for a policy of ticks."""
        return self.events.act if self.events is not None else None

    def close(self) -> None:
        """Let the policy's thread end."""
        if self.events is not None:
            self.events.close()

    async def decide(self, snapshot: Snapshot) -> Decision:
        """Return the policy's decision, or the fallback's."""
        self.counts.decisions += 1
        # The arrays may be views of tables that change while the policy thinks.
        snapshot = Snapshot(
            **{f.name: np.array(getattr(snapshot, f.name)) for f in fields(Snapshot)}
        )
        began = time.perf_counter()
        decision: Any
        decision, reason = await self._ask(snapshot)
        if not reason:
            self.counts.seconds.append(time.perf_counter() - began)
            reason = self._fault(decision)
        if reason:
            self.counts.fallbacks[reason] += 1
            # Under an event policy nothing stands: its rules decide where it does not.
            decision = Decision() if self.events else self.fallback.decide(snapshot)
        chosen: Decision = decision
        return chosen

    async def _ask(self, snapshot: Snapshot) -> tuple[Any, str]:
        if self._overdue is not None and not self._overdue.done():
            return None, "slow"
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Decision] = loop.create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        thread = threading.Thread(
            target=_decide, args=(loop, answer, self.policy, snapshot), daemon=True
        )
        thread.start()
        first = self.counts.decisions == 1
        budget_s = self._first_budget_s if first else self._budget_s
        done, _ = await asyncio.wait({answer}, timeout=budget_s)
        if not done:
            self._overdue = answer
            return None, "slow"
        error = answer.exception()
        if error is not None:
            self.counts.last_error = f"{type(error).__name__}: {error}"
            return None, "raised"
        return answer.result(), ""

    def _fault(self, decision: object) -> str:
        if not isinstance(decision, Decision):
            return "malformed"
        for name in PER_FUNCTION:
            value = getattr(decision, name)
            if value is None:
                continue
            try:
                array = np.broadcast_to(np.asarray(value, np.float64), self._shape)
            except (TypeError, ValueError):
                return "malformed"
            if np.isnan(array).any():
                return "nan"
        return ""


def _decide(
    loop: asyncio.AbstractEventLoop,
    answer: asyncio.Future[Decision],
    policy: Policy,
    snapshot: Snapshot,
) -> None:
    outcome: Decision | Exception
    try:
        outcome = policy.decide(snapshot)
    except Exception as error:
        outcome = error

    def settle() -> None:
        if answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        # The loop closed before a slow policy was done: nobody waits for this.
        return
