"""A request on its way through the controller: pending, answered or failed; and the statistics.

Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

KEPT_TIMES = 100_000


class RequestFailed(RuntimeError):
    """A request that was not served, and why."""

    def __init__(self, function: str, reason: str) -> None:
        super().__init__(f"{function}: {reason}")
        self.function = function
        self.reason = reason


@dataclass(frozen=True)
class Answer:
    """A request that was served."""

    output: Any
    arrival_s: float
    start_s: float
    finish_s: float
    batch: int
    """Requests that were served together with it, itself included."""
    service_s: float
    """Time of that batch in the worker."""


@dataclass
class Statistics:
    """Counts and times since the start."""

    counts: Counter[str] = field(default_factory=Counter)
    """requests, served, failed, rejected, loads_disk, loads_host, drops, batches, lost_instances,
    load_errors, batch_errors."""
    load_s: dict[str, list[float]] = field(default_factory=lambda: {"disk": [], "host": []})
    overhead_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    """Of each batch: order to reply, less the worker's own time (waits for the device included)."""


@dataclass
class PendingRequest:
    """A request that has not ended."""

    fn: int
    payload: Any
    arrival_s: float
    future: asyncio.Future[Answer]
