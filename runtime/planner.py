"""What the controller asks of a planner: facts in, effects out, no clock and no input of its own.

The compiled cluster engine in live mode is the planner, so the runtime follows the very rules
that the simulator follows.  Units: seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from stoker.envs.cluster.batching import RUN
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.live_effects import Effect, Load
from stoker.envs.cluster.policy_like import BatchedLike, PolicyLike
from stoker.envs.cluster.recollection import Memory
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.runtime.event_guard import heuristic


class Planner(Protocol):
    """Keep-alive, eviction, placement, batching: decided, not done."""

    def arrive(self, t: float, fn: int, service_hint: float | None = None) -> int:
        """Take in a request and return its number."""
        ...

    def ready(self, t: float, instance: int) -> None:
        """An instance has been brought up, or a host copy fetched."""
        ...

    def completed(self, t: float, head: int) -> None:
        """The batch with this request at its head has been served."""
        ...

    def failed(self, t: float, *instances: int) -> None:
        """Instances are lost at once, or could not be brought up; Reject names who fails so."""
        ...

    def advance(self, t: float) -> None:
        """Fire the timers up to t."""
        ...

    def next_timer(self) -> float:
        """Time of the next timer; inf = none."""
        ...

    def cancel(self, t: float, request: int) -> bool:
        """Take a request out of its queue; False if it stands in none."""
        ...

    def observe(self, policy: PolicyLike) -> None:
        """Fill `Snapshot.observation` from now on, if the policy asks for it."""
        ...

    def follow(self, rules: Rules) -> None:
        """Evict and plan by other rules from now on."""
        ...

    @property
    def pending(self) -> int:
        """The function that an event policy is being asked about."""
        ...

    def remember(self, t: float) -> Memory:
        """What is known of the traffic at t, as plain arrays."""
        ...

    def recall(self, memory: Memory, away_s: float = 0.0) -> None:
        """Take over what a planner remembered `away_s` ago."""
        ...

    def apply(self, decision: Decision) -> None:
        """Take over standing orders."""
        ...

    def snapshot(self) -> Snapshot:
        """What a policy sees now."""
        ...

    def effects(self) -> Sequence[Effect]:
        """Return what is to be done since the last call, in order."""
        ...


class _RunsOne:
    """A policy of batches that runs one request, with the sizes of another policy."""

    def __init__(self, like: BatchedLike) -> None:
        self.rules, self.tick_s, self.observes = like.rules, like.tick_s, like.observes
        self.slo_target, self.sizes, self.wait_share = like.slo_target, like.sizes, like.wait_share
        self.batches, self.reset = self, like.reset

    def decide(self, observation: Any, due: Any = None) -> Any:
        """Run the smallest batch."""
        return np.full(1, RUN)


def warm_up(cluster: Cluster, rules: Rules, policy: PolicyLike | None = None) -> None:
    """Compile, or read from the cache, all that the planner needs, on an engine thrown away.

    Args:
        cluster: of the planner.
        rules: of the planner.
        policy: that it will serve; None = none that is asked at events.
    """
    acts = heuristic if getattr(policy, "act", None) is not None else None
    batched = _RunsOne(policy) if isinstance(policy, BatchedLike) else None
    engine = LiveEngine(cluster, rules, capacity=4, act=acts, batched=batched)
    if policy is not None:
        engine.observe(policy)
    engine.apply(Decision(keep_alive_s=np.full((1, len(cluster.functions)), math.inf)))
    head = engine.arrive(0.0, 0)
    loads = [effect for effect in engine.effects() if isinstance(effect, Load)]
    engine.ready(1.0, loads[0].instance)
    engine.effects()
    engine.completed(2.0, head)
    engine.cancel(2.0, head)
    engine.follow(rules)
    engine.failed(3.0, loads[0].instance)
    engine.snapshot()
    engine.result(4.0)
