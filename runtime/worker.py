"""The worker process of one device: takes orders from a pipe, answers each of them once.

Copies (load, drop, fetch) and batches run on two threads, each one at a time and in the order in
which the orders came: a slow read from disk does not hold up a batch of another function. What
decoders generate is reported token by token (compute.py).

Units: seconds, bytes.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn

from stoker.runtime.compute import Compute
from stoker.runtime.device import Device
from stoker.runtime.messages import Command, Progress, Reply, WorkerSpec

PR_SET_PDEATHSIG = 1
GREETING = -1
COMPUTED = ("run", "generate", "withdraw", "budget")
"""Orders of the compute thread."""

# The first module on the meta device imports for two seconds: done once, in the process that
# workers are forked from.
with torch.device("meta"):
    nn.Sequential(nn.Linear(1, 1), nn.Conv2d(1, 1, 1), nn.Embedding(1, 1), nn.LayerNorm(1))


def main(spec: WorkerSpec, pipe: Connection) -> None:
    """Serve until the pipe closes; never outlive the parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(spec.threads)
    started = time.perf_counter()
    try:
        device = Device(spec)
    except Exception as error:
        pipe.send(Reply(GREETING, error=_line(error)))
        return
    pipe.send(Reply(GREETING, time.perf_counter() - started, os.getpid()))
    Worker(device, pipe).serve()


class Worker:
    """Dispatches orders to the copy thread and the compute thread."""

    def __init__(self, device: Device, pipe: Connection) -> None:
        self.device = device
        self.pipe = pipe
        self._sending = threading.Lock()
        self._copies: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._compute = Compute(device, self._send, _line)
        for work in (self._copy, self._compute.serve):
            threading.Thread(target=_whole, args=(work,), daemon=True).start()

    def serve(self) -> None:
        """Take orders until the other end hangs up."""
        while True:
            try:
                command: Command = self.pipe.recv()
                descriptor = reduction.recv_handle(self.pipe) if command.kind == "attach" else -1
            except (EOFError, OSError):
                return
            self._dispatch(command, descriptor)

    def _dispatch(self, command: Command, descriptor: int) -> None:
        if command.kind in COMPUTED:
            self._compute.orders.put(command)
        else:
            self._copies.put(lambda: self._carry_out(command, descriptor))

    def _copy(self) -> None:
        self.device.enter()
        while True:
            self._copies.get()()

    def _carry_out(self, command: Command, descriptor: int) -> None:
        started = time.perf_counter()
        try:
            value = self._obey(command, descriptor)
            reply = Reply(command.number, time.perf_counter() - started, value)
        except Exception as error:
            reply = Reply(command.number, time.perf_counter() - started, error=_line(error))
        self._send(reply)

    def _obey(self, command: Command, descriptor: int) -> Any:
        device = self.device
        match command.kind:
            case "load":
                device.load(command.instance, command.fn, command.source, command.place)
            case "drop":
                device.drop(command.instance, command.place)
            case "fetch":
                device.fetch(command.fn, command.place)
            case "attach":
                device.attach(descriptor, command.size)
            case "ping":
                return _state(device)
            case _:
                raise ValueError(f"unknown order {command.kind!r}")
        return None

    def _send(self, message: Reply | Progress) -> None:
        with self._sending:
            try:
                self.pipe.send(message)
            except OSError:
                os._exit(0)


def _whole(work: Callable[[], None]) -> None:
    """Run a thread's work; a worker that is half dead would leave orders without an answer."""
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _state(device: Device) -> dict[str, Any]:
    """What the worker holds, for whoever checks the books; of decoders pages and sequences."""
    generators = {i: r.generator for i, r in sorted(device.residents.items())}
    return {
        "used": device.arena.used,
        "instances": list(generators),
        "decoders": {
            i: (g.iterations.blocks.used, len(g)) for i, g in generators.items() if g is not None
        },
    }


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    known = isinstance(error, ValueError | MemoryError)
    return text if known else f"{type(error).__name__}: {text}"
