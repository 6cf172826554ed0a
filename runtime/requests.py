"""Requests on their way through the controller: pending, answered or failed; and statistics.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from stoker.runtime.backend_protocol import Listener
from stoker.runtime.clock import Timer

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
    token_s: tuple[float, ...] = ()
    """When each token came, of a decoder."""


LOADED_FROM = ("disk", "host", "remote")
"""Where a backend may be told to load from; remote where the cluster's disks are limited."""


@dataclass
class Statistics:
    """Counts and times since the start."""

    counts: Counter[str] = field(default_factory=Counter)
    """requests; how they ended: served, failed, rejected (by the policy), overflow (queue full),
    expired (deadline passed in the queue), cancelled (the client went away); and loads_disk,
    loads_host, loads_remote, drops, batches, lost_instances, load_errors, batch_errors,
    order_errors."""
    load_s: dict[str, deque[float]] = field(
        default_factory=lambda: {tier: deque(maxlen=KEPT_TIMES) for tier in LOADED_FROM}
    )
    overhead_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    """Of each batch: order to reply, less the worker's own time (waits for the device included)."""
    first_token_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    """Of each request to a decoder: arrival to first token."""
    between_tokens_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    """Of each further token: time since the one before."""


@dataclass
class PendingRequest:
    """A request that has not ended."""

    fn: int
    payload: Any
    arrival_s: float
    future: asyncio.Future[Answer]
    started: bool = False
    """Whether it has left its queue."""
    alarm: Timer | None = None
    """Of its deadline."""
    on_token: Callable[[int, str], None] | None = None
    token_s: list[float] = field(default_factory=list)


ENDS = ("served", "failed", "rejected", "overflow", "expired", "cancelled")
"""Every request ends in one of these ways."""
Ended = Callable[[int, float], None]
"""Called with a function and the latency of a request of it; inf = it was refused or has failed."""


class OpenRequests:
    """The requests that have not ended, by the planner's number; each ends exactly once."""

    def __init__(self, names: tuple[str, ...], statistics: Statistics, ended: Ended) -> None:
        self._names = names
        self._statistics = statistics
        self._counts = statistics.counts
        self._ended = ended
        self._open: dict[int, PendingRequest] = {}
        self._waiting: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, number: int) -> bool:
        return number in self._open

    def __getitem__(self, number: int) -> PendingRequest:
        return self._open[number]

    def holds(self, number: int, request: PendingRequest) -> bool:
        """Whether the number still is this request's."""
        return self._open.get(number) is request

    def waiting(self, fn: int) -> int:
        """Requests of a function that stand in its queue."""
        return self._waiting[fn]

    def add(self, number: int, request: PendingRequest) -> None:
        """Take a request in."""
        self._open[number] = request
        self._waiting[request.fn] += 1

    def refuse(self, request: PendingRequest, reason: str, kind: str) -> None:
        """End a request that has never been taken in."""
        self._fail(request, reason, kind)

    def begin(self, numbers: Iterable[int]) -> list[Any]:
        """Take requests out of their queues for good; return the payloads of those still open."""
        payloads = []
        for number in numbers:
            if (request := self._open.get(number)) is not None:
                payloads.append(request.payload)
                self._leave_queue(request)
        return payloads

    def listener(self, numbers: Iterable[int], now: Callable[[], float]) -> Listener:
        """Return what hears the tokens of an order for these requests, if it gives any.

        A request that is alone in its order is withdrawn when its client goes away.
        """
        asked = [number for number in numbers if number in self._open]

        def hear(index: int, token: int, text: str) -> None:
            request = self._open.get(asked[index])
            if request is not None:
                self._hear(request, now(), token, text)

        listener = Listener(hear)

        def gone(future: asyncio.Future[Answer]) -> None:
            if future.cancelled():
                listener.withdraw()

        if len(asked) == 1:
            self._open[asked[0]].future.add_done_callback(gone)
        return listener

    def _hear(self, request: PendingRequest, now_s: float, token: int, text: str) -> None:
        if request.token_s:
            self._statistics.between_tokens_s.append(now_s - request.token_s[-1])
        else:
            self._statistics.first_token_s.append(now_s - request.arrival_s)
        request.token_s.append(now_s)
        if request.on_token is not None and not request.future.done():
            request.on_token(token, text)

    def _leave_queue(self, request: PendingRequest) -> None:
        if request.started:
            return
        request.started = True
        self._waiting[request.fn] -= 1
        if request.alarm is not None:
            request.alarm.cancel()

    def _pop(self, number: int) -> PendingRequest | None:
        request = self._open.pop(number, None)
        if request is not None:
            self._leave_queue(request)
        return request

    def fail(self, number: int, reason: str, kind: str = "failed") -> None:
        """End a request without an answer."""
        if (request := self._pop(number)) is not None:
            self._fail(request, reason, kind)

    def _fail(self, request: PendingRequest, reason: str, kind: str) -> None:
        if request.future.cancelled():
            self._counts["cancelled"] += 1
            return
        self._counts[kind] += 1
        self._ended(request.fn, math.inf)
        request.future.set_exception(RequestFailed(self._names[request.fn], reason))
        # A client that does not look is no fault to report.
        request.future.exception()

    def fail_all(self, reason: str) -> None:
        """End every request without an answer."""
        for number in list(self._open):
            self.fail(number, reason)

    def deliver(
        self, numbers: Iterable[int], outputs: list[Any], start_s: float, finish_s: float,
        service_s: float,
    ) -> None:  # fmt: skip
        """End the requests of one batch with their outputs; those of clients gone are let go."""
        served = [n for n in numbers if n in self._open]
        for number, output in zip(served, outputs, strict=True):
            request = self._pop(number)
            assert request is not None
            if request.future.cancelled():
                self._counts["cancelled"] += 1
                continue
            self._counts["served"] += 1
            self._ended(request.fn, finish_s - request.arrival_s)
            times, token_s = (request.arrival_s, start_s, finish_s), tuple(request.token_s)
            answer = Answer(output, *times, len(served), service_s, token_s)
            request.future.set_result(answer)
