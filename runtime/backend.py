"""The embedded backend: torch workers, one a device.

Units: seconds, bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stoker.envs.cluster.decision import Capabilities
from stoker.runtime.arena import aligned
from stoker.runtime.backend_protocol import Backend, Listener, Lost
from stoker.runtime.catalog import Deployment, ModelError, check_budget
from stoker.runtime.hostmem import HostCopy, HostFull, HostTier
from stoker.runtime.messages import DISK, HOST, Reply, WorkerSpec
from stoker.runtime.process import OrderFailed, WorkerDied, WorkerProcess


@dataclass(frozen=True)
class Ledger:
    """Bytes by tier, as the backend counts them."""

    device: tuple[int, ...]
    """Bytes of the instances of each device. Length G"""
    host: int
    host_misses: int
    """Loads asked from host memory that had to go to disk."""


@dataclass(eq=False)
class _Place:
    """One bringing-up of an instance."""

    fn: int


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
        self.capabilities = Capabilities(
            host_tier=host_bytes > 0, layers=False, targets=False, capacity=False
        )
        self.on_lost: Lost = lambda gpu, instances: None
        self._sizes = [d.model.data_bytes for d in self.deployments]
        self._device_sizes = [d.device_bytes for d in self.deployments]
        self._check_fit(device_bytes)
        self._host = HostTier(host_bytes, max(self._sizes))
        # The order that brings an instance up marks it: numbers of lost instances come again.
        self._where: list[dict[int, _Place]] = [{} for _ in device_bytes]
        self._filling: dict[int, tuple[int, asyncio.Future[Reply]]] = {}
        self._host_misses = 0
        self._token_budgets: dict[int, int] = {}
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
                self._host,
                lambda gpu=gpu: self._died(gpu),  # type: ignore[misc]
            )
            for gpu, size in enumerate(device_bytes)
        ]

    def _check_fit(self, device_bytes: Sequence[int]) -> None:
        largest = max(device_bytes)
        for deployment, size in zip(self.deployments, self._device_sizes, strict=True):
            if aligned(size) > largest:
                # The weights, and what a decoder keeps beside them.
                at = f"function[{deployment.function}]: {deployment.model.weights_file}: data"
                raise ModelError(at, f"{size} bytes", f"<= {largest} bytes (largest device)")

    async def start(self) -> None:
        """Start every worker.

        Raises:
            WorkerDied: a worker cannot start; the message names the model at fault, if one is.
        """
        self._host.open()
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
            sum(aligned(self._device_sizes[place.fn]) for place in table.values())
            for table in self._where
        )
        return Ledger(device, self._host.used, self._host_misses)

    def load(self, gpu: int, instance: int, fn: int, source: str) -> asyncio.Future[Reply]:
        """Bring an instance up; one that is not in host memory comes from disk, and is counted.

        A load from host memory uses the copy up: from then on the weights are on the device.
        """
        if instance in self._where[gpu]:
            return _settled(OrderFailed(f"instance {instance} is on device {gpu} already"))
        return self._bring(gpu, instance, fn, source)

    def _bring(self, gpu: int, instance: int, fn: int, source: str) -> asyncio.Future[Reply]:
        place = _Place(fn)
        self._where[gpu][instance] = place
        pending = self._filling.get(fn)
        if source == HOST and pending is not None and pending[0] != gpu:
            return asyncio.ensure_future(self._load_after_fill(gpu, instance, place, pending[1]))
        copy = self._host.find(fn)
        if source == HOST and (copy is None or not (copy.filled or pending)):
            self._host_misses += 1
            source, copy = DISK, None
        at = copy.offset if source == HOST and copy is not None else -1
        future = self.workers[gpu].order("load", fn=fn, instance=instance, source=source, place=at)
        if source == HOST and copy is not None:
            self._use_up(copy, future)
        future.add_done_callback(lambda done: self._loaded(gpu, instance, place, done))
        return future

    async def _load_after_fill(
        self, gpu: int, instance: int, place: _Place, filling: asyncio.Future[Reply]
    ) -> Reply:
        await asyncio.wait([filling])
        if self._where[gpu].get(instance) is not place:
            raise WorkerDied(f"instance {instance} was lost before its load began")
        return await self._bring(gpu, instance, place.fn, HOST)

    def _loaded(self, gpu: int, instance: int, place: _Place, done: asyncio.Future[Reply]) -> None:
        failed = not done.cancelled() and done.exception() is not None
        if failed and self._where[gpu].get(instance) is place:
            del self._where[gpu][instance]

    def _use_up(self, copy: HostCopy, future: asyncio.Future[Reply]) -> None:
        copy.pins += 1

        def settle(done: asyncio.Future[Reply]) -> None:
            copy.pins -= 1
            failed = not done.cancelled() and done.exception() is not None
            if not copy.pins and not failed:
                self._host.release(copy)

        future.add_done_callback(settle)

    def drop(self, gpu: int, instance: int, to_host: bool) -> asyncio.Future[Reply]:
        """Take an instance down; without room in host memory its weights are let go."""
        place = self._where[gpu].pop(instance, None)
        if place is None:
            return _settled(OrderFailed(f"instance {instance} is not on device {gpu}"))
        copy = self._take(place.fn) if to_host else None
        if copy is None or copy.filled or place.fn in self._filling:
            return self.workers[gpu].order("drop", instance=instance)
        future = self.workers[gpu].order("drop", instance=instance, place=copy.offset)
        self._fill(gpu, copy, future)
        return future

    def run(
        self,
        gpu: int,
        instance: int,
        payloads: Sequence[Any],
        listener: Listener | None = None,
    ) -> asyncio.Future[Reply]:
        """Serve one batch; on a decoder its requests join those that run."""
        worker, place = self.workers[gpu], self._where[gpu].get(instance)
        if place is None or not self.deployments[place.fn].decoder:
            return worker.order("run", instance=instance, payloads=tuple(payloads))
        on_token = listener.on_token if listener is not None else None
        number, future = worker.generate(instance, tuple(payloads), on_token)
        if listener is not None:
            listener.withdraw = lambda: _withdraw(worker, number, future)
        return future

    def set_token_budget(self, fn: int, token_budget: int) -> None:
        """Change the budget of a decoder's iterations, from the next one on.

        Raises:
            ModelError: not a number of tokens.
        """
        check_budget(token_budget)
        self._token_budgets[fn] = token_budget
        for worker in self.workers:
            worker.order("budget", fn=fn, size=token_budget).add_done_callback(_ignore)

    def fetch_host(self, fn: int) -> asyncio.Future[Reply]:
        """Read a function's weights into host memory, through the device with least to do."""
        if fn in self._filling:
            return self._filling[fn][1]
        try:
            copy = self._host.take(fn, self._sizes[fn])
        except HostFull as error:
            return _settled(error)
        if copy.filled:
            return _settled(Reply(0))
        gpu = min(range(len(self.workers)), key=lambda g: len(self._where[g]))
        future = self.workers[gpu].order("fetch", fn=fn, place=copy.offset)
        self._fill(gpu, copy, future)
        return future

    def drop_host(self, fn: int) -> None:
        """Give a function's host memory back."""
        copy = self._host.find(fn)
        if copy is not None:
            self._host.release(copy)

    def _take(self, fn: int) -> HostCopy | None:
        try:
            return self._host.take(fn, self._sizes[fn])
        except HostFull:
            return None

    def _fill(self, gpu: int, copy: HostCopy, future: asyncio.Future[Reply]) -> None:
        """Note that a copy is being written until the future ends."""
        self._filling[copy.fn] = (gpu, future)
        copy.pins += 1

        def settle(done: asyncio.Future[Reply]) -> None:
            copy.pins -= 1
            if self._filling.get(copy.fn, (gpu, None))[1] is future:
                del self._filling[copy.fn]
            copy.filled = not done.cancelled() and done.exception() is None
            if not copy.filled or not copy.held:
                self._host.release(copy)

        future.add_done_callback(settle)

    def _died(self, gpu: int) -> None:
        lost = sorted(self._where[gpu])
        self._where[gpu].clear()
        for fn, token_budget in self._token_budgets.items():  # for the worker that starts next
            order = self.workers[gpu].order("budget", fn=fn, size=token_budget)
            order.add_done_callback(_ignore)
        self.on_lost(gpu, lost)


def _withdraw(worker: WorkerProcess, number: int, future: asyncio.Future[Reply]) -> None:
    if not future.done():
        worker.order("withdraw", target=number).add_done_callback(_ignore)


def _ignore(done: asyncio.Future[Reply]) -> None:
    """Nobody waits for it: that it failed with its worker is told elsewhere."""
    if not done.cancelled():
        done.exception()


def _settled(outcome: Reply | Exception) -> asyncio.Future[Reply]:
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
    return future


__all__ = ["Backend", "Ledger", "Listener", "TorchBackend", "WorkerDied"]
