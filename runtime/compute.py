"""The compute thread of a worker: batches in their order, and between them iterations of decoders.

New requests, withdrawals and budgets are taken in between two iterations, so a request joins those
that run at once.  At most one batch of another model goes between two iterations.

Units: seconds.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stoker.runtime.device import Device
from stoker.runtime.generator import Generator, Token
from stoker.runtime.messages import WITHDRAWN, Command, Progress, Reply


@dataclass
class _Order:
    """An order to generate: one sequence a payload, answered when the last is complete."""

    command: Command
    started: float
    answers: list[Any]
    left: int = field(default=0)


class Compute:
    """Carries out what needs the device's processor.

    Args:
        device: of the worker.
        send: to the controller.
        line: of an error, for the user.
    """

    def __init__(
        self,
        device: Device,
        send: Callable[[Reply | Progress], None],
        line: Callable[[BaseException], str],
    ) -> None:
        self.device, self._send, self._line = device, send, line
        self.orders: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._open: dict[int, _Order] = {}
        self._active: dict[int, Generator] = {}
        """Instances with open sequences."""

    def serve(self) -> None:
        """Carry out orders for ever."""
        self.device.enter()
        while True:
            self._take_orders()
            for instance in list(self._active):
                self._iterate(instance)

    def _take_orders(self) -> None:
        """Carry out what waits, up to one batch; wait for something if nothing is open."""
        while True:
            try:
                command = self.orders.get(block=not self._active)
            except queue.Empty:
                return
            started = time.perf_counter()
            try:
                self._obey(command, started)
            except Exception as error:
                seconds = time.perf_counter() - started
                self._send(Reply(command.number, seconds, error=self._line(error)))
            if command.kind == "run" and self._active:
                return

    def _obey(self, command: Command, started: float) -> None:
        value = None
        match command.kind:
            case "run":
                value = self.device.run(command.instance, command.payloads)
            case "generate":
                self._submit(command, started)
                return
            case "withdraw":
                self._withdraw(command.target)
            case "budget":
                self.device.set_token_budget(command.fn, command.size)
        self._send(Reply(command.number, time.perf_counter() - started, value))

    def _submit(self, command: Command, started: float) -> None:
        """Open all sequences of an order, or none."""
        generator = self.device.generator(command.instance)
        try:
            for index, payload in enumerate(command.payloads):
                generator.submit((command.number, index), payload)
        except Exception:
            self._forget(generator, command)
            raise
        count = len(command.payloads)
        if not count:
            raise ValueError("an order without payloads")
        self._open[command.number] = _Order(command, started, [None] * count, count)
        self._active[command.instance] = generator

    def _forget(self, generator: Generator, command: Command) -> None:
        for index in range(len(command.payloads)):
            generator.withdraw((command.number, index))

    def _withdraw(self, number: int) -> None:
        order = self._open.pop(number, None)
        if order is None:  # it has ended meanwhile
            return
        instance = order.command.instance
        if instance in self._active:
            self._forget(self._active[instance], order.command)
            self._rest(instance)
        self._fail(order, WITHDRAWN)

    def _iterate(self, instance: int) -> None:
        generator = self._active[instance]
        try:
            with self.device.computing(instance) as resident:
                if resident.generator is not generator:
                    raise ValueError(f"instance {instance} was taken down")
                tokens = generator.step()
        except Exception as error:
            self._break(instance, self._line(error))
            return
        self._report(tokens)
        self._rest(instance)

    def _report(self, tokens: list[Token]) -> None:
        """Send the tokens of an iteration in one message, then the answers that are complete."""
        if tokens:
            items = tuple((*t.key, t.token, t.text) for t in tokens)
            self._send(Progress(items))
        for token in tokens:
            if token.answer is None:
                continue
            number, index = token.key
            order = self._open[number]
            order.answers[index] = token.answer
            order.left -= 1
            if not order.left:
                del self._open[number]
                seconds = time.perf_counter() - order.started
                self._send(Reply(number, seconds, order.answers))

    def _rest(self, instance: int) -> None:
        if not len(self._active[instance]):
            del self._active[instance]

    def _break(self, instance: int, reason: str) -> None:
        """An iteration failed: all who waited for it are told, and its pages are free."""
        generator = self._active.pop(instance)
        mine = [o for o in self._open.values() if o.command.instance == instance]
        for order in mine:
            del self._open[order.command.number]
            self._forget(generator, order.command)
            self._fail(order, reason)

    def _fail(self, order: _Order, reason: str) -> None:
        seconds = time.perf_counter() - order.started
        self._send(Reply(order.command.number, seconds, error=reason))
