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

REST_S = 0.02
"""Mean rest between two requests, exponential: caches go cold and cores to sleep, as they do."""
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
    backend: TorchBackend, room: int, passes: int, rng: np.random.Generator,
    tell: Callable[[float], None],
) -> list[Probed]:  # fmt: skip
    """Ask each function `passes` times cold and as often warm, in a random order.

    Args:
        backend: started, with nothing loaded; it is closed at the end.
        room: bytes of its device, enough for all functions.
        passes: requests to each function, of each kind.
        rng: of the order, the rests and the payloads.
        tell: told the fraction that is done.
    """
    cluster = _cluster(backend, room)
    await asyncio.to_thread(warm_up, cluster, Rules())
    names = [f.name for f in cluster.functions]
    controller = Controller(LiveEngine(cluster), backend, names)
    found = [Probed() for _ in names]
    try:
        await controller.start(start_backend=False)
        for k, keep_s in enumerate((LEAVE, KEEP)):
            controller.order(Decision(keep_alive_s=np.full((1, len(names)), keep_s)))
            for done in range(passes + k):  # the first warm ones are cold
                for fn in rng.permutation(len(names)).tolist():
                    await asyncio.sleep(rng.exponential(REST_S))
                    await _ask(controller, fn, found[fn], rng)
                tell(0.5 * (k + done / passes))
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


async def _ask(controller: Controller, fn: int, found: Probed, rng: np.random.Generator) -> None:
    backend, loads = controller.backend, controller.statistics.load_s["disk"]
    assert isinstance(backend, TorchBackend)
    before = len(loads)
    payload = sample_payload(backend.deployments[fn].model, rng)
    answer = await controller.request(fn, payload)
    way_s = answer.finish_s - answer.arrival_s - answer.service_s
    if len(loads) > before:
        found.loads_s.append(loads[-1])
        found.load_orders_s.append(way_s - loads[-1])
    else:
        found.batches_s.append(answer.service_s)
        found.orders_s.append(way_s)
