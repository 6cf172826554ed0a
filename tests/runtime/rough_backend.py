"""A backend in virtual time on which everything goes wrong, with a ledger of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from stand_ins import TimedBackend

from stoker.runtime.backend_protocol import Listener
from stoker.runtime.clock import VirtualClock
from stoker.runtime.messages import Reply
from stoker.runtime.process import OrderFailed, WorkerDied

PLACES = 2
"""Devices."""


class RoughBackend(TimedBackend):
    """Durations drawn at random; loads and batches that fail; devices that die.

    Keeps its own ledger of what it holds: of which function each instance of a device is.
    """

    def __init__(self, clock: VirtualClock, rng: np.random.Generator, roughness: float) -> None:
        super().__init__(clock)
        self.rng, self.roughness = rng, roughness
        self.on: list[dict[int, int]] = [{} for _ in range(PLACES)]
        self.flying: list[list[asyncio.Future[Reply]]] = [[] for _ in range(PLACES)]
        self.host: set[int] = set()
        self.readers: Counter[int] = Counter()
        self.most = 0

    def _soon(self, gpu: int, mean_s: float, outcome: Any) -> asyncio.Future[Reply]:
        future = self._later(float(self.rng.gamma(4.0, mean_s / 4.0)), outcome)
        self.flying[gpu] = [f for f in self.flying[gpu] if not f.done()] + [future]
        return future

    def load(self, gpu: int, instance: int, fn: int, source: str) -> asyncio.Future[Reply]:
        assert instance not in self.on[gpu], "what is loaded is not there yet"
        self.on[gpu][instance] = fn
        self.most = max(self.most, *(len(device) for device in self.on))
        fails = self.rng.random() < self.roughness
        mean_s = 1.0 if fails or source == "host" else 3.0 + fn
        future = self._soon(gpu, mean_s, OrderFailed("no such weights") if fails else None)
        if fails:
            future.add_done_callback(lambda done: self._not_loaded(gpu, instance, done))
        if source == "host":
            assert fn in self.host, "what is loaded from the host is there"
            self.readers[fn] += 1
            future.add_done_callback(lambda done: self._use_up(fn, done))
        return future

    def _not_loaded(self, gpu: int, instance: int, done: asyncio.Future[Reply]) -> None:
        """After a death the number may be another's."""
        if isinstance(done.exception(), OrderFailed):
            del self.on[gpu][instance]

    def _use_up(self, fn: int, done: asyncio.Future[Reply]) -> None:
        """The last load that reads a copy uses it up, as on the torch backend."""
        self.readers[fn] -= 1
        if not self.readers[fn] and done.exception() is None:
            self.host.discard(fn)

    def fetch_host(self, fn: int) -> asyncio.Future[Reply]:
        self.host.add(fn)
        return super().fetch_host(fn)

    def drop_host(self, fn: int) -> None:
        self.host.remove(fn)

    def drop(self, gpu: int, instance: int, to_host: bool) -> asyncio.Future[Reply]:
        fn = self.on[gpu].pop(instance, None)
        assert fn is not None, "what is dropped is there"
        if to_host:
            self.host.add(fn)
        return self._later(0.0, None)

    def run(
        self, gpu: int, instance: int, payloads: Sequence[Any], listener: Listener | None = None
    ) -> asyncio.Future[Reply]:
        assert instance in self.on[gpu], "what runs is there"
        if self.rng.random() < self.roughness:
            return self._soon(gpu, 0.5, OrderFailed("cannot be served"))
        return self._soon(gpu, 0.3 + 0.05 * len(payloads), [p * 2 for p in payloads])

    def strike(self, gpu: int) -> None:
        """The device's worker dies with all that it holds."""
        lost, self.on[gpu] = sorted(self.on[gpu]), {}
        for future in self.flying[gpu]:
            if not future.done():
                future.set_exception(WorkerDied("died"))
        self.on_lost(gpu, lost)
