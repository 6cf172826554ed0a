"""One transition of a device at a time: the worker's copies never overlap, batches do not wait."""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from stoker.runtime.messages import Command, Reply
from stoker.runtime.worker import Worker


class SlowDevice:
    """Takes its time over everything, and notes what went on at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._copying = 0
        self.overlaps = 0
        self.order: list[str] = []

    def enter(self) -> None:
        """Nothing to do on a CPU."""

    def _copy(self, what: str) -> None:
        with self._lock:
            self._copying += 1
            self.overlaps = max(self.overlaps, self._copying)
        time.sleep(0.02)
        with self._lock:
            self._copying -= 1
            self.order.append(what)

    def load(self, instance: int, fn: int, source: str, place: int) -> None:
        self._copy(f"load {instance}")

    def drop(self, instance: int, place: int) -> None:
        self._copy(f"drop {instance}")

    def fetch(self, fn: int, place: int) -> None:
        self._copy(f"fetch {fn}")

    def run(self, instance: int, payloads: tuple[Any, ...]) -> list[Any]:
        time.sleep(0.005)
        return list(payloads)


def answers(pipe: Connection, count: int) -> list[Reply]:
    replies = []
    while len(replies) < count:
        assert pipe.poll(20.0)
        replies.append(pipe.recv())
    return replies


def test_copies_follow_each_other_and_a_batch_passes_them() -> None:
    ours, theirs = multiprocessing.Pipe()
    device = SlowDevice()
    worker = Worker(device, theirs)  # type: ignore[arg-type]
    threading.Thread(target=worker.serve, daemon=True).start()
    wanted = []
    for k in range(12):
        kind = ("load", "drop", "fetch")[k % 3]
        wanted.append(f"{kind} {k}")
        ours.send(Command(k, kind, fn=k, instance=k))
    ours.send(Command(99, "run", instance=0, payloads=(1,)))
    numbers = [reply.number for reply in answers(ours, 13)]
    assert device.overlaps == 1 and device.order == wanted
    assert numbers.index(99) < 11, "the batch did not wait for the copies"
    assert [number for number in numbers if number != 99] == list(range(12))
