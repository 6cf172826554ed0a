"""What batches and loads cost each other, measured on a worker whose times are known."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from small_models import GPT, MakeModel

from stoker.runtime.backend import TorchBackend
from stoker.runtime.beside import Both, slow_each_other
from stoker.runtime.catalog import Deployment, deploy
from stoker.runtime.messages import Reply

LOAD, BATCH = 12.0, 4.0
"""Turns that they take alone."""


@dataclass
class Job:
    left: float
    over: asyncio.Future[Reply]
    turns: int = 0


class Worker:
    """Loads and batches in turns; where both are under way a turn does less of each."""

    def __init__(self, deployments: tuple[Deployment, ...], batch: float, load: float) -> None:
        self.deployments, self.batch, self.load_speed = deployments, 1.0 / batch, 1.0 / load
        self.loads: deque[Job] = deque()
        self.batches: deque[Job] = deque()
        self.held: list[int] = []

    def load(self, gpu: int, instance: int, fn: int, source: str) -> asyncio.Future[Reply]:
        self.held.append(instance)
        return self._enter(self.loads, LOAD)

    def run(self, gpu: int, instance: int, payloads: list[Any]) -> asyncio.Future[Reply]:
        return self._enter(self.batches, BATCH)

    async def drop(self, gpu: int, instance: int, to_host: bool) -> None:
        self.held.remove(instance)

    def _enter(self, line: deque[Job], work: float) -> asyncio.Future[Reply]:
        job = Job(work, asyncio.get_running_loop().create_future())
        line.append(job)
        return job.over

    async def go_on(self) -> None:
        while True:
            await asyncio.sleep(0)
            both = bool(self.loads and self.batches)
            for line, speed in ((self.loads, self.load_speed), (self.batches, self.batch)):
                if line:
                    line[0].left -= speed if both else 1.0
                    line[0].turns += 1
                    if line[0].left <= 1e-9:
                        job = line.popleft()
                        job.over.set_result(Reply(0, float(job.turns)))


@pytest.mark.parametrize(
    ("batch", "load", "found"),
    [
        (1.0, 1.0, {"batch": 1.0, "load": 1.0}),
        (2.0, 1.5, {"batch": 2.0, "load": 1.5}),
        # The one batch is not over before the load: nothing is known of batches.
        (4.0, 1.0, {"batch": 1.0, "load": 1.0}),
    ],
)
def test_factors_are_those_of_the_worker(
    make_model: MakeModel, batch: float, load: float, found: dict[str, float]
) -> None:
    async def measure() -> dict[str, float]:
        worker = Worker(deploy([make_model("a", GPT), make_model("b", GPT)], 2), batch, load)
        turns = asyncio.ensure_future(worker.go_on())
        try:
            backend = cast(TorchBackend, worker)
            both = Both()
            await slow_each_other(backend, [0, 1], 3, np.random.default_rng(0), both)
            return both.factors
        finally:
            assert worker.held == [] and not worker.loads and not worker.batches
            turns.cancel()

    assert asyncio.run(measure()) == pytest.approx(found)
