"""What goes wrong in a soak, one function each; see soak.py.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster
from stoker.runtime.backend import TorchBackend
from stoker.runtime.catalog import Deployment
from stoker.runtime.controller import Controller
from stoker.runtime.requests import Answer

LASTS_S = 2.0
"""How long what is spoilt stays so."""
STALL_S = 1.0
BURST = 200
Rng = np.random.Generator


class Erratic(Policy):
    """A policy that misbehaves when it is told to; asked often, so that it matters."""

    tick_s = 0.5

    def __init__(self, inner: Policy) -> None:
        self.inner, self.mood = inner, ""
        self.rules, self.observes = inner.rules, inner.observes
        self.until_s = 0.0

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Pass on."""
        self.inner.reset(cluster, rows)
        self._limits = np.tile(
            np.array([f.max_batch for f in cluster.functions], np.int32), (rows, 1)
        )

    def decide(self, snapshot: Snapshot) -> Decision:
        """Do what the mood of the moment asks for, else what the policy does."""
        mood = self.mood if time.monotonic() < self.until_s else ""
        decision = self.inner.decide(snapshot)
        # What it asked for in another mood would stand.
        decision.prewarm = np.zeros(snapshot.queued.shape, np.int32)
        decision.max_batch = self._limits
        if mood == "raises":
            raise RuntimeError("a policy's own fault")
        if mood == "is slow":
            time.sleep(0.5)
        shape = snapshot.queued.shape
        if mood == "says NaN":
            decision.keep_alive_s = np.full(shape, np.nan)
        if mood == "asks for the impossible":
            decision.prewarm = np.full(shape, 10_000, np.int32)
            decision.max_batch = np.full(shape, -5, np.int32)
        return decision


class Sender(Protocol):
    """Whoever sends requests and sees to their end."""

    open: set[asyncio.Future[Answer]]

    def ask(self, fn: int, payload: Any = None) -> None:
        """Send one request to a function: one of its own payloads, or this one."""
        ...


@dataclass
class Scene:
    """What mishaps befall."""

    controller: Controller
    backend: TorchBackend
    policy: Erratic
    deployments: tuple[Deployment, ...]
    make: Sequence[Callable[[], Policy]]
    sender: Sender


async def kill_worker(scene: Scene, rng: Rng) -> None:
    """A worker dies, whatever it is doing; not so often that its device is given up for good."""
    worker = scene.backend.workers[int(rng.integers(len(scene.backend.workers)))]
    if worker.pid is not None and worker.deaths_left > 0:
        os.kill(worker.pid, signal.SIGKILL)


async def spoil_weights(scene: Scene, rng: Rng) -> None:
    """The file of a model is cut short for a while."""
    path = _weights(scene, rng)
    await _in_place_of(path, lambda: path.write_bytes(b"\x00" * 64))


async def remove_weights(scene: Scene, rng: Rng) -> None:
    """The file of a model is not there for a while."""
    await _in_place_of(_weights(scene, rng), lambda: None)


def _weights(scene: Scene, rng: Rng) -> Path:
    return scene.deployments[int(rng.integers(len(scene.deployments)))].model.weights_file


async def _in_place_of(path: Path, put: Callable[[], Any]) -> None:
    aside = path.with_suffix(".aside")
    path.rename(aside)
    put()
    await asyncio.sleep(LASTS_S)
    aside.rename(path)


async def clients_leave(scene: Scene, rng: Rng) -> None:
    """Half of those that wait go away."""
    for future in list(scene.sender.open):
        if rng.random() < 0.5:
            future.cancel()


async def bad_payload(scene: Scene, rng: Rng) -> None:
    """Somebody sends what is neither text nor image."""
    for fn in range(len(scene.deployments)):
        scene.sender.ask(fn, {"neither": "text nor image"})


async def burst(scene: Scene, rng: Rng) -> None:
    """Two hundred requests at once for one function."""
    fn = int(rng.integers(len(scene.deployments)))
    for _ in range(BURST):
        scene.sender.ask(fn)


async def stall(scene: Scene, rng: Rng) -> None:
    """The controller's loop stands still."""
    time.sleep(STALL_S)


async def misbehave(scene: Scene, rng: Rng) -> None:
    """The policy raises, is slow, says NaN or asks for the impossible for a while."""
    moods = ("raises", "is slow", "says NaN", "asks for the impossible")
    scene.policy.mood = moods[int(rng.integers(len(moods)))]
    scene.policy.until_s = time.monotonic() + LASTS_S


async def reload_good(scene: Scene, rng: Rng) -> None:
    """Another policy takes over."""
    made = Erratic(scene.make[int(rng.integers(len(scene.make)))]())
    await scene.controller.reload(lambda: made)
    scene.policy = made


async def reload_bad(scene: Scene, rng: Rng) -> None:
    """A policy that cannot be loaded is to take over."""

    def broken() -> Policy:
        raise SpecError("bundle.sha256", "0" * 16, "another one")

    try:
        await scene.controller.reload(broken)
    except SpecError:
        return
    raise AssertionError("a broken policy was taken")


MISHAPS: dict[str, Callable[[Scene, Rng], Awaitable[None]]] = {
    "worker killed": kill_worker,
    "weights cut short": spoil_weights,
    "weights gone": remove_weights,
    "half of the clients gone": clients_leave,
    "payloads that are no payloads": bad_payload,
    "200 requests at once": burst,
    "loop stalled": stall,
    "policy misbehaves": misbehave,
    "policy replaced": reload_good,
    "broken policy offered": reload_bad,
}
"""By name."""
