"""The event-level choices of a run, by name (docs/rules.md).  Units: seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from stoker.envs.cluster.choices import CHOICES, choose
from stoker.envs.cluster.errors import require
from stoker.envs.cluster.rules.params import DEFAULTS

SCANNING = ("score", "hazard")
"""Eviction by an index read at the present age, not by a priority kept since the last use."""


@dataclass(frozen=True)
class Rules:
    """Event-level choices by name, and the parity switches (all documented in docs/rules.md)."""

    scale_out: str = "target_concurrency"
    """per_request: a request without a free slot starts (and is bound to) an instance of its own;
    target_concurrency: requests wait in their function's queue, a new instance is started when the
    slots that exist or load cannot hold the queue; wait_vs_cold: likewise, but only if it would be
    ready before a slot is expected to be free."""
    placement: str = "most_free"
    eviction: str = "lru"
    host_eviction: str = "lru"
    """Which copy leaves a full host memory."""
    plan: str = "decision"
    """Who sets keep-alive when an instance becomes idle: the last Decision, or a compiled rule."""
    order: str = "fcfs"
    """Which waiting function gets memory, and who runs next on an exclusive GPU."""
    overload: str = "queue"
    eviction_need: str = "shortfall"
    futile_eviction: str = "never"
    """allowed: idle instances leave even when that cannot make enough room."""
    clone_choice: str = "mru"
    ttl_anchor: str = "end"
    ttl_expiry: str = "eager"
    frequency: str = "function"
    clock: str = "max"
    time_quantum_s: float = 0.0
    """Round every computed time to this grid (0 = off): integer-millisecond simulators."""
    params: dict[str, float] = field(default_factory=dict)
    """Numbers of the rule in use, e.g. hazard decay; see the rule's file."""

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name not in ("params", "time_quantum_s"):
                choose(f"rules.{f.name}", getattr(self, f.name), f"rules.{f.name}")
        require(self.time_quantum_s >= 0.0, "rules.time_quantum_s", self.time_quantum_s, ">= 0")
        if self.scale_out == "per_request":
            require(self.overload == "drop", "rules.overload", self.overload, "drop (per_request)")
            require(self.order == "fcfs", "rules.order", self.order, "fcfs (per_request)")
        if self.order == "required_request_count":
            accepted = "queue (order is required_request_count)"
            require(self.overload == "queue", "rules.overload", self.overload, accepted)
        if self.eviction_need == "full":
            priorities = [rule for rule in CHOICES["rules.eviction"] if rule not in SCANNING]
            accepted = f"a rule by priority: {' | '.join(priorities)}"
            require(self.eviction not in SCANNING, "rules.eviction", self.eviction, accepted)
        for name, value in self.params.items():
            require(name in DEFAULTS, f"rules.params.{name}", value, " | ".join(DEFAULTS))
            require(math.isfinite(value), f"rules.params.{name}", value, "a finite number")
            if name.endswith("_decay"):
                require(0.0 < value <= 1.0, f"rules.params.{name}", value, "in (0, 1]")
            if name == "hybrid_minute_s":
                require(value > 0.0, f"rules.params.{name}", value, "> 0")
            if name == "order_max_wait_s":
                require(value >= 0.0, f"rules.params.{name}", value, ">= 0")
            if name == "order_required_requests":
                require(value >= 1.0, f"rules.params.{name}", value, ">= 1")
