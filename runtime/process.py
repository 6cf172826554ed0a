"""One worker process as the controller sees it: start, order, answer, death, restart.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from stoker.runtime.catalog import ModelError
from stoker.runtime.hostmem import HostTier
from stoker.runtime.messages import Command, Progress, Reply, WorkerSpec

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 2.0
ORDER_TIMEOUT_S = 60.0
"""A worker that leaves an order without a reply for so long is frozen, and is ended."""
MAX_DEATHS = 5
DEATH_WINDOW_S = 60.0
"""More deaths than MAX_DEATHS within this time: the device counts as down."""


OnToken = Callable[[int, int, str], None]
"""Called with which of an order's payloads a token is for, the token, and the text it completes."""


class WorkerDied(RuntimeError):
    """The worker process ended before it answered."""


class OrderFailed(RuntimeError):
    """The worker answered that it could not do it."""


_start_lock = threading.Lock()


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep multiprocessing from importing the user's script again in every worker."""
    with _start_lock:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def spawn(spec: WorkerSpec) -> tuple[ForkServerProcess, Connection, Reply]:
    """Start a worker and wait for its greeting (blocking; the first start also loads torch).

    Raises:
        ModelError: the worker cannot serve one of the models.
        WorkerDied: it ended or stayed silent.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stoker.runtime.worker"])
    ours, theirs = context.Pipe()
    with _hidden_main():
        from stoker.runtime import entry

        process = context.Process(target=entry.worker, args=(spec, theirs), daemon=True)
        process.start()
    # Else recv() on a dead worker would wait for ever: our copy of its end kept the pipe open.
    theirs.close()
    try:
        if not ours.poll(START_TIMEOUT_S):
            raise WorkerDied(f"worker of device {spec.gpu} did not start in {START_TIMEOUT_S:g} s")
        greeting: Reply = ours.recv()
    except (EOFError, OSError):
        greeting = Reply(-1, error=f"worker of device {spec.gpu} ended while starting")
    except WorkerDied:
        process.kill()
        raise
    if greeting.error is not None:
        process.join(STOP_TIMEOUT_S)
        raise WorkerDied(greeting.error)
    return process, ours, greeting


class WorkerProcess:
    """Sends orders in sequence and resolves a future for each; restarts the process if it dies."""

    def __init__(self, spec: WorkerSpec, host: HostTier, on_death: Callable[[], None]) -> None:
        self.spec = spec
        self.host = host
        self.order_timeout_s = ORDER_TIMEOUT_S
        self.deaths = 0
        self.start_s: list[float] = []
        """Time of each start, from asking to greeting."""
        self._on_death = on_death
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._listening: dict[int, OnToken] = {}
        self._heard_s = 0.0
        self._outbox: list[Command] = []
        self._numbers = 0
        self._death_times: list[float] = []
        self._process: ForkServerProcess | None = None
        self._pipe: Connection | None = None
        self._restart: asyncio.Task[None] | None = None
        self._down: str | None = None

    @property
    def pid(self) -> int | None:
        """Process id while the worker lives."""
        return self._process.pid if self._process is not None else None

    @property
    def deaths_left(self) -> int:
        """How often it may still die now before the device counts as down."""
        now = time.monotonic()
        return MAX_DEATHS - sum(now - t < DEATH_WINDOW_S for t in self._death_times)

    async def start(self) -> None:
        """Start the process."""
        began = time.perf_counter()
        process, pipe, _ = await asyncio.to_thread(spawn, self.spec)
        self.start_s.append(time.perf_counter() - began)
        self._process, self._pipe = process, pipe
        loop = asyncio.get_running_loop()
        loop.add_reader(pipe.fileno(), self._read)
        loop.add_reader(process.sentinel, self._read)
        if self.host.descriptor >= 0:
            self._send(Command(0, "attach", size=self.host.pool_bytes))
        for command in self._outbox:
            self._send(command)
        self._outbox.clear()

    def order(self, kind: str, **fields: Any) -> asyncio.Future[Reply]:
        """Queue one order; the future ends with its reply, OrderFailed or WorkerDied."""
        return self._order(Command(self._number(), kind, **fields))

    def generate(
        self, instance: int, payloads: tuple[Any, ...], on_token: OnToken | None
    ) -> tuple[int, asyncio.Future[Reply]]:
        """Queue an order to generate; return its number, to withdraw it by, and its future.

        It is overdue when the worker has said nothing at all for so long: every iteration speaks.
        """
        command = Command(self._number(), "generate", instance=instance, payloads=payloads)
        if on_token is not None:
            self._listening[command.number] = on_token
        future = self._order(command)
        future.add_done_callback(lambda _: self._listening.pop(command.number, None))
        return command.number, future

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _order(self, command: Command) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self._down is not None:
            future.set_exception(WorkerDied(self._down))
            return future
        self._waiting[command.number] = future
        self._watch(command, future, self.order_timeout_s)
        if self._pipe is None:
            self._outbox.append(command)
        else:
            self._send(command)
        return future

    def _watch(self, command: Command, future: asyncio.Future[Reply], wait_s: float) -> None:
        """End the worker if the order is not answered in time."""
        loop = asyncio.get_running_loop()

        def overdue() -> None:
            silent_s = loop.time() - self._heard_s
            if command.kind == "generate" and silent_s < self.order_timeout_s:
                if not future.done():
                    self._watch(command, future, self.order_timeout_s - silent_s)
            elif command.number in self._waiting and self._process is not None:
                self._process.kill()

        alarm = loop.call_later(wait_s, overdue)
        future.add_done_callback(lambda _: alarm.cancel())

    def _send(self, command: Command) -> None:
        assert self._pipe is not None
        try:
            self._pipe.send(command)
            if command.kind == "attach":
                reduction.send_handle(self._pipe, self.host.descriptor, self.pid)
        except OSError:
            # The reader sees the closed pipe and fails every order that waits, this one too.
            return

    def _read(self) -> None:
        assert self._pipe is not None and self._process is not None
        try:
            while self._pipe.poll():
                self._hear(self._pipe.recv())
        except (EOFError, OSError):
            self._bury()
            return
        if not self._process.is_alive():
            self._bury()

    def _hear(self, message: Reply | Progress) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        if isinstance(message, Reply):
            self._resolve(message)
            return
        for number, index, token, text in message.items:
            on_token = self._listening.get(number)
            if on_token is not None:
                on_token(index, token, text)

    def _resolve(self, reply: Reply) -> None:
        future = self._waiting.pop(reply.number, None)
        if future is None or future.done():
            return
        if reply.error is None:
            future.set_result(reply)
        else:
            future.set_exception(OrderFailed(reply.error))

    def _bury(self) -> None:
        self._detach()
        now = time.monotonic()
        self.deaths += 1
        self._death_times = [t for t in self._death_times if now - t < DEATH_WINDOW_S] + [now]
        if len(self._death_times) > MAX_DEATHS:
            self._down = f"device {self.spec.gpu} is down: its worker died {MAX_DEATHS}+ times"
        lost, self._waiting = self._waiting, {}
        self._outbox.clear()
        for future in lost.values():
            if not future.done():
                future.set_exception(WorkerDied(f"worker of device {self.spec.gpu} died"))
        self._on_death()
        if self._down is None:
            self._restart = asyncio.get_running_loop().create_task(self._start_again())

    async def _start_again(self) -> None:
        try:
            await self.start()
        except (WorkerDied, ModelError, OSError) as error:
            self._down = f"device {self.spec.gpu} is down: {error}"
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(WorkerDied(self._down))
            self._waiting.clear()

    def _detach(self) -> None:
        loop = asyncio.get_running_loop()
        if self._pipe is not None:
            loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
            self._pipe = None
        if self._process is not None:
            loop.remove_reader(self._process.sentinel)
            self._process.kill()
            self._process.join(STOP_TIMEOUT_S)
            self._process.close()
            self._process = None

    async def close(self) -> None:
        """End the process and fail what still waits."""
        if self._restart is not None and not self._restart.done():
            await asyncio.wait([self._restart])
        self._down = f"device {self.spec.gpu} is closed"
        self._detach()
        lost, self._waiting = self._waiting, {}
        for future in lost.values():
            if not future.done():
                future.set_exception(WorkerDied(self._down))


def stop_forkserver() -> None:
    """End the process that workers are forked from; the next start pays for torch again."""
    from multiprocessing import forkserver

    server = forkserver._forkserver  # type: ignore[attr-defined]
    stop = getattr(server, "_stop", None)
    if stop is not None and getattr(server, "_forkserver_pid", None) != os.getpid():
        stop()
