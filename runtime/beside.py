"""What batches and loads on one device cost each other: together and then apart.

A function is loaded while another is asked without a pause; then as many batches are run with
nothing beside them, and the load is done again likewise. The factors are sums of the worker's own
times together over sums apart.

Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from stoker.runtime.backend import TorchBackend
from stoker.runtime.payloads import sample_payload

AHEAD = 2
"""Batches that are ordered at once, so that one runs while the next is on its way."""


@dataclass
class Times:
    """The worker's."""

    loads_s: list[float] = field(default_factory=list)
    batches_s: list[float] = field(default_factory=list)


@dataclass
class Both:
    """Loads and batches, at once and one after the other."""

    together: Times = field(default_factory=Times)
    apart: Times = field(default_factory=Times)

    @property
    def factors(self) -> dict[str, float]:
        """By which a batch (`batch`) and a load from disk (`load`) take longer together."""
        return {
            "batch": _factor(self.together.batches_s, self.apart.batches_s),
            "load": _factor(self.together.loads_s, self.apart.loads_s),
        }


async def slow_each_other(
    backend: TorchBackend, functions: Sequence[int], passes: int, rng: np.random.Generator,
    found: Both,
) -> None:  # fmt: skip
    """Load each of the functions beside batches of each, and both alone.

    Args:
        backend: each of the functions is loaded as the instance of its number, and there is room
            for one more.
        functions: which these are.
        passes: times that each function is loaded beside each.
        rng: of the order and the payloads.
        found: gets the times.
    """
    count = len(functions)
    for _ in range(passes):
        for pair in rng.permutation(count * count).tolist():
            loaded, asked = divmod(pair, count)
            await _pair(backend, functions[loaded], functions[asked], rng, found)


async def _pair(
    backend: TorchBackend, loaded: int, asked: int, rng: np.random.Generator, found: Both
) -> None:
    """Load one function while another is asked, then do either alone."""
    further = len(backend.deployments)
    load = backend.load(0, further, loaded, "disk")
    batches_s = await _ask(backend, asked, rng, lambda _: load.done())
    found.together.batches_s += batches_s
    found.together.loads_s.append((await load).seconds)
    await backend.drop(0, further, False)
    if batches_s:
        again_s = await _ask(backend, asked, rng, lambda done: done == len(batches_s))
        found.apart.batches_s += again_s
    found.apart.loads_s.append((await backend.load(0, further, loaded, "disk")).seconds)
    await backend.drop(0, further, False)


def _factor(together: Sequence[float], apart: Sequence[float]) -> float:
    return sum(together) / sum(apart) if apart else 1.0


async def _ask(
    backend: TorchBackend, fn: int, rng: np.random.Generator, over: Callable[[int], bool]
) -> list[float]:
    """Ask without a pause until it is over; return the times of the batches answered before.

    Args:
        backend: with the function loaded as the instance of its number.
        fn: what is asked.
        rng: of the payloads.
        over: told how many have been answered.
    """
    model = backend.deployments[fn].model
    taken: list[float] = []
    under_way = [backend.run(0, fn, [sample_payload(model, rng)]) for _ in range(AHEAD)]
    while True:
        reply = await under_way.pop(0)
        if over(len(taken)):
            break
        taken.append(reply.seconds)
        under_way.append(backend.run(0, fn, [sample_payload(model, rng)]))
    await asyncio.gather(*under_way)
    return taken
