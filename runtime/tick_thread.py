"""One decision of a tick policy on a thread of its own, within a time budget.

A slow policy delays nobody; while an overdue answer is still being computed the policy is not asked
again.  Shapes: F functions.  Units: seconds.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import PER_FUNCTION, Decision, Snapshot


class TickThread:
    """Asks one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._overdue: asyncio.Future[Decision] | None = None
        self.error = ""
        """What the policy raised last."""

    async def ask(self, snapshot: Snapshot, budget_s: float) -> tuple[Any, str]:
        """Return the answer, and why there is none: slow or raised."""
        if self._overdue is not None and not self._overdue.done():
            return None, "slow"
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Decision] = loop.create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        thread = threading.Thread(
            target=_decide, args=(loop, answer, self._policy, snapshot), daemon=True
        )
        thread.start()
        done, _ = await asyncio.wait({answer}, timeout=budget_s)
        if not done:
            self._overdue = answer
            return None, "slow"
        error = answer.exception()
        if error is not None:
            self.error = f"{type(error).__name__}: {error}"
            return None, "raised"
        return answer.result(), ""


def fault(decision: object, functions: int) -> str:
    """Say what is wrong with a decision; empty if nothing is."""
    if not isinstance(decision, Decision):
        return "malformed"
    for name in PER_FUNCTION:
        value = getattr(decision, name)
        if value is None:
            continue
        try:
            array = np.broadcast_to(np.asarray(value, np.float64), (1, functions))
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
