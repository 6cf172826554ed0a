"""Another policy takes over while requests run: looked at first, refused in one line if need be.

It is loaded and asked on a thread of its own about what was really seen; only then, and between two
decisions, it is put in the place of the one before, which goes on otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import fields

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.batching import RUN
from stoker.envs.cluster.decision import Snapshot
from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.live_rules import check_switch
from stoker.envs.cluster.observe import K
from stoker.envs.cluster.policy_like import BatchedLike
from stoker.runtime.event_guard import fault as plan_fault
from stoker.runtime.guard import Guard
from stoker.runtime.tick_thread import fault as decision_fault


async def reload(guard: Guard, make: Callable[[], Policy], snapshot: Snapshot) -> None:
    """Put the policy that `make` returns in the place of the guarded one.

    Args:
        guard: around the one that steers.
        make: loads the new one, e.g. `lambda: BundlePolicy(folder)`.
        snapshot: of now, for a policy of ticks.

    Raises:
        SpecError: it cannot be loaded, or does not do; the old one goes on.
    """
    kept = list(guard.events.kept) if guard.events is not None else []
    asked = np.array(kept, np.float32).reshape(-1, K) if kept else np.zeros((1, K), np.float32)
    snapshot = Snapshot(**{f.name: np.array(getattr(snapshot, f.name)) for f in fields(Snapshot)})
    try:
        policy = await asyncio.to_thread(_examined, guard, make, asked, snapshot)
    except Exception as error:
        guard.counts.refused_reloads += 1
        guard.counts.last_error = " ".join(str(error).split())
        if isinstance(error, SpecError):
            raise
        name = type(error).__name__
        raise SpecError("policy", name, f"one that can be loaded ({error})") from error
    guard.take(policy)


def _examined(
    guard: Guard,
    make: Callable[[], Policy],
    observations: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    snapshot: Snapshot,
) -> Policy:
    """Load a policy and see that it does what the one before does, at least in form."""
    policy = make()
    if isinstance(policy, BatchedLike) != (guard.batches is not None):
        raise SpecError("policy", type(policy).__name__, "one asked likewise as the one before")
    if isinstance(policy, BatchedLike):
        _examine_batches(guard, policy)
    act = getattr(policy, "act", None)
    if (act is None) != (guard.events is None):
        accepted = "one asked at idle events" if guard.events is not None else "one asked at ticks"
        raise SpecError("policy", type(policy).__name__, f"{accepted}, as the one before")
    check_switch(guard.policy.rules, policy.rules, "policy.rules")
    policy.reset(guard.cluster, 1)
    if act is not None:
        # One by one, as the runtime asks, and all at once.
        answers = [(act(observations[k : k + 1]), 1) for k in range(len(observations))]
        answers.append((act(observations), len(observations)))
        wrong = {plan_fault(plan, n) for plan, n in answers} - {""}
    else:
        functions = len(guard.cluster.functions)
        wrong = {decision_fault(policy.decide(snapshot), functions)} - {""}
        policy.reset(guard.cluster, 1)
    _refuse(wrong, len(observations))
    return policy


def _examine_batches(guard: Guard, policy: BatchedLike) -> None:
    """A policy of batches: its sizes, and what a bundle prefers where it was asked."""
    assert guard.batches is not None and isinstance(guard.policy, BatchedLike)
    old, new = guard.policy.sizes.tolist(), policy.sizes.tolist()
    require(new == old, "policy.sizes", new, f"{old} (of the one before)")
    prefer, kept = getattr(policy.batches, "prefer", None), np.array(guard.batches.kept)
    if prefer is not None and len(kept):
        wide = prefer(kept).shape == (len(kept), RUN + len(old))
        _refuse(set() if wide else {"malformed"}, len(kept))


def _refuse(wrong: set[str], asked: int) -> None:
    if wrong:
        accepted = f"legal answers to {asked} question(s) that were asked"
        raise SpecError("policy", " | ".join(sorted(wrong)), accepted)
