"""Requests one at a time through a controller of their own: what loads, batches and the way take.

Each finds an idle machine, as most requests do: the figures are those of a request in life, not of
a tight loop, and hold what the controller, its planner and the pipe add.

Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.spec import GIB, Cluster, Function, Gpu, Node, Rules
from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.controller import Controller
from stoker.runtime.payloads import sample_payload
from stoker.runtime.planner import warm_up

KEEP, LEAVE = np.inf, 0.0
"""Keep-alive of what is to be warm, and of what is to be loaded anew by every request."""


@dataclass
class Probed:
    """What the requests to one function took."""

    loads_s: list[float] = field(default_factory=list)
    """The worker's time of each load from disk."""
    load_orders_s: list[float] = field(default_factory=list)
    """Arrival to answer where it had to be loaded, less load and batch: two orders' ways."""
    batches_s: list[float] = field(default_factory=list)
    """The worker's time of each batch of one, nothing to be loaded."""
    orders_s: list[float] = field(default_factory=list)
    """Arrival to answer there, less that."""


async def probe(
    backend: TorchBackend, room: int, passes: int, rest_s: float, rng: np.random.Generator,
    tell: Callable[[float], None],
) -> list[Probed]:  # fmt: skip
    """Ask functions cold and others warm, in one random order: loads leave the caches to batches.

    Args:
        backend: started, with nothing loaded; it is closed at the end. Of its functions the first
            half is asked cold, the second half warm.
        room: bytes of its device. Where not all functions fit, a warm one may have to leave, and
            is asked again.
        passes: requests to each function.
        rest_s: mean rest between two requests, exponential: caches go cold and cores to sleep.
        rng: of the order, the rests and the payloads.
        tell: told the fraction that is done.

    Returns:
        What was found of each function of the first half, and of its warm twin.
    """
    cluster = _cluster(backend, room)
    await asyncio.to_thread(warm_up, cluster, Rules())
    names = [f.name for f in cluster.functions]
    half = len(names) // 2
    controller = Controller(LiveEngine(cluster), backend, names)
    found = [Probed() for _ in range(half)]
    try:
        await controller.start(start_backend=False)
        keep_s = np.repeat([LEAVE, KEEP], half)[None]
        controller.order(Decision(keep_alive_s=keep_s))
        for fn in range(half, 2 * half):  # the first one is cold
            await _ask(controller, fn, Probed(), rng)
        for done in range(passes):
            for fn in rng.permutation(2 * half).tolist():
                await asyncio.sleep(rng.exponential(rest_s))
                loaded = await _ask(controller, fn, found[fn % half], rng)
                while loaded and fn >= half:  # it had to leave
                    await asyncio.sleep(rng.exponential(rest_s))
                    loaded = await _ask(controller, fn, found[fn % half], rng)
            tell((done + 1) / passes)
    finally:
        await controller.close()
    return found


def _cluster(backend: TorchBackend, room: int) -> Cluster:
    """The backend as a cluster that has not been measured yet."""
    functions = tuple(
        Function(d.function, d.model.data_bytes / GIB, aligned(d.device_bytes) / GIB)
        for d in backend.deployments
    )
    return Cluster(Node((Gpu(room / GIB, sharing="exclusive"),)), functions)


async def _ask(controller: Controller, fn: int, found: Probed, rng: np.random.Generator) -> bool:
    """Send one request, note what it took, and return whether it had to be loaded."""
    backend, loads = controller.backend, controller.statistics.load_s["disk"]
    assert isinstance(backend, TorchBackend)
    before = len(loads)
    payload = sample_payload(backend.deployments[fn].model, rng)
    answer = await controller.request(fn, payload)
    way_s = answer.finish_s - answer.arrival_s - answer.service_s
    loaded = len(loads) > before
    if loaded:
        found.loads_s.append(loads[-1])
        found.load_orders_s.append(way_s - loads[-1])
    else:
        found.batches_s.append(answer.service_s)
        found.orders_s.append(way_s)
    return loaded
