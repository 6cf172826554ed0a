"""Requests on their way through the controller: pending, answered or failed; and statistics.

Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
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


LOADED_FROM = ("disk", "host", "remote")
"""Where a backend may be told to load from; remote where the cluster's disks are limited."""


@dataclass
class Statistics:
    """Counts and times since the start."""

    counts: Counter[str] = field(default_factory=Counter)
    """requests, served, failed, rejected, loads_disk, loads_host, loads_remote, drops, batches,
    lost_instances, load_errors, batch_errors, order_errors."""
    load_s: dict[str, deque[float]] = field(
        default_factory=lambda: {tier: deque(maxlen=KEPT_TIMES) for tier in LOADED_FROM}
    )
    overhead_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    """Of each batch: order to reply, less the worker's own time (waits for the device included)."""


@dataclass
class PendingRequest:
    """A request that has not ended."""

    fn: int
    payload: Any
    arrival_s: float
    future: asyncio.Future[Answer]


class OpenRequests:
    """The requests that have not ended, by the planner's number; each ends exactly once."""

    def __init__(self, names: tuple[str, ...], statistics: Statistics) -> None:
        self._names = names
        self._counts = statistics.counts
        self._open: dict[int, PendingRequest] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, number: int) -> bool:
        return number in self._open

    def __getitem__(self, number: int) -> PendingRequest:
        return self._open[number]

    def add(self, number: int, request: PendingRequest) -> None:
        """Take a request in."""
        self._open[number] = request

    def payloads(self, numbers: Iterable[int]) -> list[Any]:
        """Return the payloads of those that are open."""
        return [self._open[n].payload for n in numbers if n in self._open]

    def fail(self, number: int, reason: str, kind: str = "failed") -> None:
        """End a request without an answer."""
        request = self._open.pop(number, None)
        if request is None:
            return
        self._counts[kind] += 1
        if not request.future.done():
            request.future.set_exception(RequestFailed(self._names[request.fn], reason))
            # A client that went away does not fetch it: that is no fault to report.
            request.future.exception()

    def fail_all(self, reason: str) -> None:
        """End every request without an answer."""
        for number in list(self._open):
            self.fail(number, reason)

    def deliver(
        self, numbers: Iterable[int], outputs: list[Any], start_s: float, finish_s: float,
        service_s: float,
    ) -> None:  # fmt: skip
        """End the requests of one batch with their outputs."""
        served = [n for n in numbers if n in self._open]
        for number, output in zip(served, outputs, strict=True):
            request = self._open.pop(number)
            self._counts["served"] += 1
            if not request.future.done():
                request.future.set_result(
                    Answer(output, request.arrival_s, start_s, finish_s, len(served), service_s)
                )
