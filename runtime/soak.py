"""Load for minutes on real models while things go wrong at random; every request is accounted for.

Requests come at random for functions over a few models. Meanwhile workers are killed, weights are
spoilt on disk, clients go away, the loop stands still, the policy misbehaves and others take its
place. Every answer is compared with what its model says where it is never swapped.

Units: seconds, bytes.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.errors import require
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.spec import GIB, Cluster
from stoker.runtime.backend import TorchBackend
from stoker.runtime.books import disagreements
from stoker.runtime.catalog import Deployment
from stoker.runtime.clock import RealClock
from stoker.runtime.controller import Controller
from stoker.runtime.controller_settings import ControllerSettings
from stoker.runtime.guard import Guard
from stoker.runtime.guard_settings import GuardSettings
from stoker.runtime.mishaps import MISHAPS, Erratic, Scene
from stoker.runtime.models import load_reference
from stoker.runtime.payloads import sample_payload
from stoker.runtime.planner import warm_up
from stoker.runtime.requests import Answer, RequestFailed

PAYLOADS = 32
"""Different payloads a function."""
SAMPLE_S = 2.0
"""Between two looks at the memory."""
AUDIT_S = 0.1
"""Between two looks at the books."""
DRAIN_S = 60.0
"""Time in which what is open at the end may still end."""
ANY: Any = object()
"""Expected of a payload that is not ours: some models make something of anything."""
CLOSE = 1e-3
"""Two probabilities that differ by less are the same: batches are summed in another order."""
Progress = Callable[[float], None]
"""Called with the share of the time that has passed."""


@dataclass(frozen=True)
class SoakSettings:
    """How long and how hard."""

    minutes: float = 10.0
    rate_hz: float = 40.0
    """Requests a second, over all functions."""
    mishap_every_s: float = 3.0
    """Mean time between two things that go wrong."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("minutes", "rate_hz", "mishap_every_s"):
            require(getattr(self, name) > 0.0, f"soak.{name}", getattr(self, name), "> 0")


@dataclass
class SoakReport:
    """What became of it."""

    sent: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    """Requests by how they ended: served, cancelled, or the reason of the failure."""
    mishaps: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    """Answers that are not what the model says."""
    unended: int = 0
    """Requests without an end."""
    latency_s: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """The controller's and the guard's."""
    memory: list[tuple[float, int, int]] = field(default_factory=list)
    """Time, bytes of the controller's own, of the workers' own."""
    looks: int = 0
    """Times that planner, ledger and arenas were compared..."""
    disagreements: list[str] = field(default_factory=list)
    """...and where they said different things."""
    left: list[str] = field(default_factory=list)
    """Processes and shared memory that outlived the backend."""

    @property
    def accounted(self) -> bool:
        """Whether every request ended exactly once."""
        return self.unended == 0 and self.sent == self.ends.total()

    @property
    def sound(self) -> bool:
        """Whether nothing went wrong but what was made to."""
        return self.accounted and not (self.wrong or self.left or self.disagreements)

    def as_record(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: dict(v) if isinstance(v, Counter) else v for k, v in plain.items()}

    def growth(self) -> float:
        """Controller's memory in the last quarter over that in the second, less 1."""
        sizes = np.array([size for _, size, _ in self.memory], np.float64)
        quarter = max(len(sizes) // 4, 1)
        return float(np.median(sizes[-quarter:]) / np.median(sizes[quarter : 2 * quarter]) - 1.0)


def soak(
    cluster: Cluster,
    deployments: Sequence[Deployment],
    make: Sequence[Callable[[], Policy]],
    settings: SoakSettings,
    device: str = "cpu",
    progress: Progress | None = None,
) -> SoakReport:
    """Serve under load and mishaps.

    Args:
        cluster: as calibrated.
        deployments: of its functions. Their models' files are spoilt for moments: give copies.
        make: policies of one kind that take each other's place, the first to begin with.
        settings: how long and how hard.
        device: cpu, or cuda.
        progress: told about every second.
    """
    return asyncio.run(_Soak(cluster, deployments, make, settings, device, progress).play())


class _Soak:
    def __init__(
        self,
        cluster: Cluster,
        deployments: Sequence[Deployment],
        make: Sequence[Callable[[], Policy]],
        settings: SoakSettings,
        device: str,
        progress: Progress | None,
    ) -> None:
        self.cluster, self.settings, self.progress = cluster, settings, progress
        self.rng = np.random.default_rng(settings.seed)
        self.report = SoakReport()
        sizes = [round(gpu.memory_gib * GIB) for gpu in cluster.node.gpus]
        host = round(cluster.node.host_gib * GIB)
        self.backend = TorchBackend(deployments, sizes, host, device)
        self.policy = Erratic(make[0]())
        guard = Guard(self.policy, cluster, settings=GuardSettings(hold_s=1.0, longest_hold_s=8.0))
        self.guard = guard
        self.engine = LiveEngine(cluster, guard.rules, act=guard.act, recycle=True)
        self.payloads, self.expected = _references(deployments, self.rng)
        self.make, self.deployments = make, tuple(deployments)
        self.open: set[asyncio.Future[Answer]] = set()

    async def play(self) -> SoakReport:
        before = set(os.listdir("/dev/shm"))
        await self.backend.start()
        await asyncio.to_thread(warm_up, self.cluster, self.guard.rules, self.policy)
        clock = RealClock()
        names = [f.name for f in self.cluster.functions]
        self.controller = controller = Controller(
            self.engine, self.backend, names, self.guard, clock,
            ControllerSettings(deadline_s=20.0, queue_limit=400),
        )  # fmt: skip
        await controller.start(start_backend=False)
        pids: set[int] = set()
        end_s = 60.0 * self.settings.minutes
        scene = Scene(controller, self.backend, self.policy, self.deployments, self.make, self)
        try:
            jobs = [self._send(clock, end_s), self._spoil(scene, clock, end_s),
                    self._watch(clock, end_s, pids), self._audit(clock, end_s)]  # fmt: skip
            await asyncio.gather(*jobs)
            if self.open:
                await asyncio.wait(self.open, timeout=DRAIN_S)
            self.report.unended = len(self.open)
            self.report.counts += controller.statistics.counts
            self.report.counts += self.guard.counts.fallbacks
        finally:
            await controller.close()
            self.guard.close()
        await asyncio.sleep(2.0)
        alive = [f"process {pid}" for pid in pids if Path(f"/proc/{pid}").exists()]
        self.report.left = alive + sorted(set(os.listdir("/dev/shm")) - before)
        return self.report

    async def _send(self, clock: RealClock, end_s: float) -> None:
        """Poisson arrivals, popular functions first."""
        share = 1.0 / np.arange(1, len(self.deployments) + 1)
        at_s = clock.now()
        while (at_s := at_s + self.rng.exponential(1.0 / self.settings.rate_hz)) < end_s:
            await asyncio.sleep(max(at_s - clock.now(), 0.0))
            self.ask(int(self.rng.choice(len(share), p=share / share.sum())))

    def ask(self, fn: int, payload: Any = None) -> None:
        """Send one request and see to its end."""
        which = int(self.rng.integers(PAYLOADS))
        given = self.payloads[fn][which] if payload is None else payload
        future = self.controller.request(fn, given)
        self.report.sent += 1
        self.open.add(future)
        expected = self.expected[fn][which] if payload is None else ANY
        future.add_done_callback(lambda done: self._ended(done, expected))

    def _ended(self, done: asyncio.Future[Answer], expected: Any) -> None:
        self.open.discard(done)
        if done.cancelled():
            self.report.ends["taken back by the client"] += 1
        elif (error := done.exception()) is not None:
            reason = error.reason if isinstance(error, RequestFailed) else repr(error)
            self.report.ends[_in_general(reason)] += 1
        else:
            answer = done.result()
            self.report.ends["served"] += 1
            self.report.latency_s.append(answer.finish_s - answer.arrival_s)
            known = expected is not ANY
            self.report.wrong += known and not same(answer.output, expected)

    async def _spoil(self, scene: Scene, clock: RealClock, end_s: float) -> None:
        """Let something go wrong, again and again."""
        names = list(MISHAPS)
        while True:
            await asyncio.sleep(self.rng.exponential(self.settings.mishap_every_s))
            if clock.now() >= end_s:
                return
            name = names[int(self.rng.integers(len(names)))]
            self.report.mishaps[name] += 1
            await MISHAPS[name](scene, self.rng)

    async def _watch(self, clock: RealClock, end_s: float, pids: set[int]) -> None:
        """Look at the memory."""
        while (now := clock.now()) < end_s:
            workers = [w.pid for w in self.backend.workers if w.pid is not None]
            pids |= set(workers)
            self.report.memory.append((now, own_bytes(os.getpid()), sum(map(own_bytes, workers))))
            if self.progress is not None:
                self.progress(now / end_s)
            await asyncio.sleep(SAMPLE_S)

    async def _audit(self, clock: RealClock, end_s: float) -> None:
        """Compare the books, whenever they can be compared."""
        while clock.now() < end_s:
            found = await disagreements(self.cluster, self.engine, self.backend)
            if found is not None:
                self.report.looks += 1
                self.report.disagreements += found
            await asyncio.sleep(AUDIT_S)


def _references(
    deployments: Sequence[Deployment], rng: np.random.Generator
) -> tuple[list[list[Any]], list[list[Any]]]:
    """Draw payloads of every function, and what its model says to each alone."""
    payloads = [[sample_payload(d.model, rng) for _ in range(PAYLOADS)] for d in deployments]
    binders = [load_reference(d.model) for d in deployments]
    expected = [
        [binder.answer([payload])[0] for payload in mine]
        for binder, mine in zip(binders, payloads, strict=True)
    ]
    return payloads, expected


def _in_general(reason: str) -> str:
    """Leave paths and numbers out of a reason."""
    return re.sub(r"/\S+/", "", re.sub(r"\d+", "n", reason))


def same(found: Any, expected: Any) -> bool:
    """Whether two answers are the same, numbers up to the order in which they were summed."""
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(same(found[k], expected[k]) for k in expected)
    if isinstance(expected, np.ndarray):
        return found.shape == expected.shape and np.allclose(found, expected, rtol=0.0, atol=CLOSE)
    if isinstance(expected, float):
        return bool(abs(found - expected) < CLOSE)
    return bool(found == expected)


def own_bytes(pid: int) -> int:
    """Bytes that a process alone holds, the host pool and files excluded; 0 if it is gone."""
    try:
        _, resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[:3])
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
