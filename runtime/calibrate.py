"""Measures this machine in about a minute: starts, loads by tier, copies, batch curves.

The figures become a profile (profile.py) that the simulator takes.

Units: seconds, GiB, GiB/s.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from stoker.envs.cluster.spec import GIB
from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.beside import slow_each_other
from stoker.runtime.catalog import Deployment, Model, ModelError
from stoker.runtime.messages import Reply
from stoker.runtime.payloads import sample_payload
from stoker.runtime.probe import Probed, probe
from stoker.runtime.profile import FORMAT, QUANTILES

BATCHES = (1, 2, 4, 8)
"""Batch sizes of the curve."""
PASSES = 7
"""Repetitions of each load and batch; medians are fitted, all of them make the residuals."""
CURVES_S = 20.0
"""Time for all batch curves, after which no further pass is begun."""
REST_S = 0.03
"""Mean time between two requests."""
REQUESTS = 6
"""Requests through a controller to each model a pass, cold ones and as many warm ones."""
COPY_BYTES = 64 * 2**20

Progress = Callable[[str, float], None]
"""Called with what is measured and the fraction that is done."""


def calibrate(
    models: Sequence[Model],
    *,
    device: str = "cpu",
    cold_disk: bool = True,
    batches: Sequence[int] = BATCHES,
    passes: int = PASSES,
    rest_s: float = REST_S,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the models on this machine.

    Args:
        models: one entry each in the profile.
        device: cpu, or cuda.
        cold_disk: drop each weight file from the page cache after it was read, so that a load
            from disk reads the disk; else it finds the page cache warm, and the profile says so.
        batches: sizes of the batch curve.
        passes: repetitions.
        rest_s: mean time between two requests. A machine that rests longer is slower at first, so
            the figures hold for traffic of about this density.
        seed: of the payloads.
        progress: told after each step.

    Returns:
        A profile: plain numbers, text and lists.

    Raises:
        ModelError: no model.
    """
    if not models:
        raise ModelError("calibrate.models", 0, "at least one model")
    run = _Run(tuple(models), device, cold_disk, tuple(batches), passes, rest_s, seed, progress)
    return asyncio.run(run.measure())


class _Run:
    def __init__(
        self,
        models: tuple[Model, ...],
        device: str,
        cold_disk: bool,
        batches: tuple[int, ...],
        passes: int,
        rest_s: float,
        seed: int,
        progress: Progress | None,
    ) -> None:
        self.models, self.batches, self.passes = models, batches, passes
        self.cold_disk, self.device, self.rest_s = cold_disk, device, rest_s
        self.rng = np.random.default_rng(seed)
        self.progress = progress
        self.load_average = os.getloadavg()[0]
        # Each twice: one is asked cold while the other is kept warm.
        deployments = [Deployment(m.name, m) for m in models]
        deployments += [Deployment(f"{m.name}, kept", m) for m in models]
        # All models, and two that come and go.
        sizes = [aligned(d.device_bytes) for d in deployments]
        self.room = min(sum(sizes), sum(sizes) // 2 + 2 * max(sizes))
        host = max(aligned(m.data_bytes) for m in models)
        self.backend = TorchBackend(deployments, [self.room], host, device, 1, cold_disk)

    def _tell(self, what: str, done: float) -> None:
        if self.progress is not None:
            self.progress(what, done)

    async def measure(self) -> dict[str, Any]:
        self._tell("process start", 0.0)
        await self.backend.start()
        try:
            restart_s = await self._restart()
            host_s = []
            for fn, model in enumerate(self.models):
                self._tell(f"loads of {model.name}", 0.2 * fn / len(self.models))
                host_s.append(await self._host_loads(fn))
            self._tell("batches", 0.2)
            first, times = await self._curves()
            self._tell("loads and batches at once", 0.35)
            beside = await self._beside()
            probed = await self._probe()
            entries = {
                model.name: _entry(model, host_s[fn], first[fn], times[fn], probed[fn])
                for fn, model in enumerate(self.models)
            }
        finally:
            await self.backend.close()
        self._tell("copies", 1.0)
        return {
            "format": FORMAT,
            "name": f"{platform.node() or 'machine'}-{self.device}",
            "machine": {**machine(self.device), "load_average": self.load_average},
            "notes": self._notes(),
            "process": {"first_start_s": self.backend.workers[0].start_s[0], "start_s": restart_s},
            "rest_s": self.rest_s,
            "copy_gib_s": copy_bandwidth(),
            "beside": beside,
            "models": entries,
        }

    def _notes(self) -> str:
        disk = "read from the disk" if self.cold_disk else "found in the page cache"
        notes = (
            f"Weights of a load from disk were {disk}. One batch at a time, one thread; times are "
            "the worker's own, the controller's share is order_s."
        )
        if self.load_average > 0.5 * (os.cpu_count() or 1):
            notes += f" The machine was busy (load average {self.load_average:.1f}): too slow."
        return notes

    async def _restart(self) -> float:
        worker = self.backend.workers[0]
        for _ in range(2):
            os.kill(worker.pid or 0, 9)
            deaths = worker.deaths
            while worker.deaths == deaths:
                await asyncio.sleep(0.005)
            await worker.order("ping")
        return float(np.median(worker.start_s[1:]))

    async def _host_loads(self, fn: int) -> list[float]:
        """Load again and again from host memory."""
        values = []
        await self.backend.load(0, 0, fn, "disk")
        await self.backend.drop(0, 0, True)
        for _ in range(self.passes):
            values.append((await self.backend.load(0, 0, fn, "host")).seconds)
            await self.backend.drop(0, 0, False)
        self.backend.drop_host(fn)
        return values

    async def _curves(self) -> tuple[list[float], list[dict[int, list[float]]]]:
        """Serve batches of each model and size in a random order, all models loaded."""
        first = []
        for fn in range(len(self.models)):
            await self.backend.load(0, fn, fn, "disk")
            first.append((await self._batch(fn, 1)).seconds)
        times: list[dict[int, list[float]]] = [{b: [] for b in self.batches} for _ in self.models]
        began = time.perf_counter()
        pairs = [(fn, size) for fn in range(len(self.models)) for size in self.batches]
        for done in range(self.passes):
            for at in self.rng.permutation(len(pairs)):
                fn, size = pairs[at]
                await asyncio.sleep(self.rng.exponential(self.rest_s))
                times[fn][size].append((await self._batch(fn, size)).seconds)
            if done >= 2 and time.perf_counter() - began > CURVES_S:
                break
        return first, times

    async def _beside(self) -> dict[str, float]:
        """Load models beside batches of others, all being loaded already; then drop them."""
        count = len(self.models)
        factors = await slow_each_other(self.backend, count, self.passes, self.rng)
        for fn in range(len(self.models)):
            await self.backend.drop(0, fn, False)
        return factors

    async def _probe(self) -> list[Probed]:
        passes = REQUESTS * self.passes
        return await probe(
            self.backend, self.room, passes, self.rest_s, self.rng,
            lambda done: self._tell("requests", 0.5 + 0.5 * done),
        )  # fmt: skip

    async def _batch(self, fn: int, size: int) -> Reply:
        payloads = [sample_payload(self.models[fn], self.rng) for _ in range(size)]
        return await self.backend.run(0, fn, payloads)


def _entry(
    model: Model,
    host_s: list[float],
    first_s: float,
    times: dict[int, list[float]],
    probed: Probed,
) -> dict[str, Any]:
    """Sum one model's figures up; residuals are relative to the median of their batch size."""
    if 1 in times:
        times = {**times, 1: times[1] + probed.batches_s}
    medians = {size: float(np.median(values)) for size, values in times.items()}
    residuals = [t / medians[size] - 1.0 for size, values in times.items() for t in values]
    alpha_s, beta_s = fit_line(np.array(list(medians)), np.array(list(medians.values())))
    # A request that finds nothing loaded goes both ways, and its answer comes by the second.
    order_s = float(np.median(probed.orders_s))
    return {
        "architecture": model.architecture,
        "weights_bytes": model.data_bytes,
        "device_bytes": aligned(Deployment(model.name, model).device_bytes),
        "load_s": {"disk": quantiles(probed.loads_s), "host": quantiles(host_s)},
        "order_s": quantiles(probed.orders_s),
        "load_order_s": quantiles([max(s - order_s, 0.0) for s in probed.load_orders_s]),
        "first_batch_s": first_s,
        "alpha_s": alpha_s,
        "beta_s": beta_s,
        "max_batch": max(medians),
        "batch_s": medians,
        "residual": quantiles(residuals),
    }


def fit_line(sizes: np.ndarray[Any, Any], seconds: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Fit alpha + beta * b by least squares of the relative error, neither below zero."""
    if len(sizes) == 1:
        return 0.0, float(seconds[0] / sizes[0])
    weight = 1.0 / seconds
    beta_s, alpha_s = np.polyfit(sizes, seconds, 1, w=weight)
    if alpha_s < 0.0:
        return 0.0, float(np.average(seconds / sizes, weights=sizes * weight))
    if beta_s < 0.0:
        return float(np.median(seconds)), 0.0
    return float(alpha_s), float(beta_s)


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return p1 to p99."""
    return {f"p{q}": float(np.percentile(values, q)) for q in QUANTILES}


def copy_bandwidth() -> float:
    """Rate of a plain copy between two buffers that were touched before: the yardstick of loads."""
    source, target = np.ones(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - began)
    return COPY_BYTES / GIB / float(np.median(seconds))


def machine(device: str) -> dict[str, Any]:
    """Describe the machine that the figures belong to."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB,
        "device": device,
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
