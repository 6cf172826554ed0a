"""What the controller asks of a backend, and the embedded one: torch workers, one a device.

Units: seconds, bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stoker.envs.cluster.decision import Capabilities
from stoker.runtime.arena import aligned
from stoker.runtime.catalog import Deployment, ModelError
from stoker.runtime.hostmem import HostFull, HostTier
from stoker.runtime.messages import DISK, HOST, Reply, WorkerSpec
from stoker.runtime.process import WorkerDied, WorkerProcess

Lost = Callable[[int, list[int]], None]
"""Called with a device and the instances that died with it."""


class Backend(Protocol):
    """Carries out effects; every order returns a future that ends with a Reply or an error."""

    capabilities: Capabilities
    on_lost: Lost

    async def start(self) -> None:
        """Make the devices ready."""

    async def close(self) -> None:
        """Stop; nothing is left behind."""

    def load(self, gpu: int, instance: int, fn: int, source: str) -> asyncio.Future[Reply]:
        """Bring an instance up from `disk` or `host`."""

    def drop(self, gpu: int, instance: int, to_host: bool) -> asyncio.Future[Reply]:
        """Take an instance down, its weights kept in host memory or not."""

    def run(self, gpu: int, instance: int, payloads: Sequence[Any]) -> asyncio.Future[Reply]:
        """Serve one batch; the reply's value is the list of answers."""

    def fetch_host(self, fn: int) -> asyncio.Future[Reply]:
        """Bring a function's weights from disk into host memory."""

    def drop_host(self, fn: int) -> None:
        """Give its host memory back."""


@dataclass(frozen=True)
class Ledger:
    """Bytes by tier, as the backend counts them."""

    device: tuple[int, ...]
    """Bytes of the instances of each device. Length G"""
    host: int
    host_misses: int
    """Loads asked from host memory that had to go to disk."""


class TorchBackend:
    """Workers, host tier and ledger; lives on one asyncio loop.

    Raises:
        ModelError: a model does not fit any device.
    """

    def __init__(
        self,
        deployments: Sequence[Deployment],
        device_bytes: Sequence[int],
        host_bytes: int = 0,
        device: str = "cpu",
        threads: int = 1,
        cold_disk: bool = False,
    ) -> None:
        self.deployments = tuple(deployments)
        self.capabilities = Capabilities(host_tier=host_bytes > 0)
        self.on_lost: Lost = lambda gpu, instances: None
        self._sizes = [d.model.data_bytes for d in self.deployments]
        self._check_fit(device_bytes)
        self._host = HostTier(host_bytes)
        self._where: list[dict[int, int]] = [{} for _ in device_bytes]
        self._attached: list[set[int]] = [set() for _ in device_bytes]
        self._fetching: dict[int, tuple[int, asyncio.Future[Reply]]] = {}
        self._host_misses = 0
        self.workers = [
            WorkerProcess(
                WorkerSpec(
                    gpu,
                    device if device == "cpu" else f"{device}:{gpu}",
                    size,
                    self.deployments,
                    threads,
                    cold_disk,
                ),
                lambda gpu=gpu: self._died(gpu),  # type: ignore[misc]
            )
            for gpu, size in enumerate(device_bytes)
        ]

    def _check_fit(self, device_bytes: Sequence[int]) -> None:
        largest = max(device_bytes)
        for deployment, size in zip(self.deployments, self._sizes, strict=True):
            if aligned(size) > largest:
                at = f"function[{deployment.function}]: {deployment.model.weights_file}: data"
                raise ModelError(at, f"{size} bytes", f"<= {largest} bytes (largest device)")

    async def start(self) -> None:
        """Start every worker.

        Raises:
            WorkerDied: a worker cannot start; the message names the model at fault, if one is.
        """
        try:
            for worker in self.workers:
                await worker.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the workers and free the host tier."""
        for worker in self.workers:
            await worker.close()
        self._host.close()

    @property
    def ledger(self) -> Ledger:
        """Bytes held now."""
        device = tuple(
            sum(aligned(self._sizes[fn]) for fn in table.values()) for table in self._where
        )
        return Ledger(device, self._host.used, self._host_misses)

    def load(self, gpu: int, instance: int, fn: int, source: str) -> asyncio.Future[Reply]:
        """Bring an instance up; one that is not in host memory comes from disk, and is counted."""
        self._where[gpu][instance] = fn
        if source == HOST and fn in self._fetching and self._fetching[fn][0] != gpu:
            return asyncio.ensure_future(self._load_after_fetch(gpu, instance, fn))
        pending = fn in self._fetching
        copy = self._host.copies.get(fn)
        if source == HOST and (copy is None or not (copy.filled or pending)):
            self._host_misses += 1
            source = DISK
        if source == HOST:
            self._attach(gpu, fn)
        future = self.workers[gpu].order("load", fn=fn, instance=instance, source=source)
        future.add_done_callback(lambda done: self._loaded(gpu, instance, done))
        return future

    async def _load_after_fetch(self, gpu: int, instance: int, fn: int) -> Reply:
        await asyncio.wait([self._fetching[fn][1]])
        return await self.load(gpu, instance, fn, HOST)

    def _loaded(self, gpu: int, instance: int, done: asyncio.Future[Reply]) -> None:
        if not done.cancelled() and done.exception() is not None:
            self._where[gpu].pop(instance, None)

    def drop(self, gpu: int, instance: int, to_host: bool) -> asyncio.Future[Reply]:
        """Take an instance down; without room in host memory its weights are let go."""
        fn = self._where[gpu].pop(instance)
        copy_out = to_host and not self._filled(fn) and self._take(fn)
        if copy_out:
            self._attach(gpu, fn)
        future = self.workers[gpu].order("drop", instance=instance, to_host=copy_out)
        if copy_out:
            self._fill(gpu, fn, future)
        return future

    def run(self, gpu: int, instance: int, payloads: Sequence[Any]) -> asyncio.Future[Reply]:
        """Serve one batch."""
        return self.workers[gpu].order("run", instance=instance, payloads=tuple(payloads))

    def fetch_host(self, fn: int) -> asyncio.Future[Reply]:
        """Read a function's weights into host memory, through the device with least to do."""
        if self._filled(fn):
            return _settled(Reply(0))
        if fn in self._fetching:
            return self._fetching[fn][1]
        gpu = min(range(len(self.workers)), key=lambda g: len(self._where[g]))
        try:
            self._host.take(fn, self._sizes[fn])
        except HostFull as error:
            return _settled(error)
        self._attach(gpu, fn)
        future = self.workers[gpu].order("fetch", fn=fn)
        self._fill(gpu, fn, future)
        return future

    def drop_host(self, fn: int) -> None:
        """Give a function's host memory back."""
        self._host.release(fn)
        for gpu, attached in enumerate(self._attached):
            if fn in attached:
                attached.discard(fn)
                _quiet(self.workers[gpu].order("forget", fn=fn))

    def _filled(self, fn: int) -> bool:
        copy = self._host.copies.get(fn)
        return copy is not None and copy.filled

    def _take(self, fn: int) -> bool:
        if fn in self._fetching:
            return False
        try:
            self._host.take(fn, self._sizes[fn])
        except HostFull:
            return False
        return True

    def _attach(self, gpu: int, fn: int) -> None:
        if fn in self._attached[gpu]:
            return
        self._attached[gpu].add(fn)
        copy = self._host.copies[fn]
        _quiet(self.workers[gpu].order("attach", copy.descriptor, fn=fn, size=copy.size))

    def _fill(self, gpu: int, fn: int, future: asyncio.Future[Reply]) -> None:
        self._fetching[fn] = (gpu, future)
        copy = self._host.copies[fn]

        def settle(done: asyncio.Future[Reply]) -> None:
            if self._fetching.get(fn, (gpu, None))[1] is future:
                del self._fetching[fn]
            if not done.cancelled() and done.exception() is None:
                copy.filled = True
            elif self._host.copies.get(fn) is copy:
                self.drop_host(fn)

        future.add_done_callback(settle)

    def _died(self, gpu: int) -> None:
        lost = sorted(self._where[gpu])
        self._where[gpu].clear()
        self._attached[gpu].clear()
        self.on_lost(gpu, lost)


def _settled(outcome: Reply | Exception) -> asyncio.Future[Reply]:
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
    return future


def _quiet(future: asyncio.Future[Reply]) -> None:
    """Look at an outcome that nobody waits for, so that asyncio does not complain."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())


__all__ = ["Backend", "Ledger", "TorchBackend", "WorkerDied"]
