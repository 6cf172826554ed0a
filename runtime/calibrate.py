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
from stoker.runtime.catalog import Deployment, Model, ModelError
from stoker.runtime.digits import sample_payload
from stoker.runtime.profile import FORMAT, QUANTILES

BATCHES = (1, 2, 4, 8)
"""Batch sizes of the curve."""
PASSES = 7
"""Repetitions of each load and batch; medians are fitted, all of them make the residuals."""
MAX_CURVE_S = 3.0
"""Time for one model's curve, after which fewer passes are made."""
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
        seed: of the payloads.
        progress: told after each step.

    Returns:
        A profile: plain numbers, text and lists.

    Raises:
        ModelError: no model.
    """
    if not models:
        raise ModelError("calibrate.models", 0, "at least one model")
    run = _Run(tuple(models), device, cold_disk, tuple(batches), passes, seed, progress)
    return asyncio.run(run.measure())


class _Run:
    def __init__(
        self,
        models: tuple[Model, ...],
        device: str,
        cold_disk: bool,
        batches: tuple[int, ...],
        passes: int,
        seed: int,
        progress: Progress | None,
    ) -> None:
        self.models, self.batches, self.passes = models, batches, passes
        self.cold_disk, self.device = cold_disk, device
        self.rng = np.random.default_rng(seed)
        self.progress = progress
        largest = max(aligned(m.data_bytes) for m in models)
        deployments = [Deployment(m.name, m) for m in models]
        self.backend = TorchBackend(deployments, [largest], 2 * largest, device, 1, cold_disk)

    def _tell(self, what: str, done: float) -> None:
        if self.progress is not None:
            self.progress(what, done)

    async def measure(self) -> dict[str, Any]:
        self._tell("process start", 0.0)
        await self.backend.start()
        try:
            restart_s = await self._restart()
            entries = {}
            for number, model in enumerate(self.models):
                self._tell(model.name, (number + 0.5) / (len(self.models) + 1))
                entries[model.name] = await self._model(number, model)
        finally:
            await self.backend.close()
        self._tell("copies", 1.0)
        return {
            "format": FORMAT,
            "name": f"{platform.node() or 'machine'}-{self.device}",
            "machine": machine(self.device),
            "notes": self._notes(),
            "process": {"first_start_s": self.backend.workers[0].start_s[0], "start_s": restart_s},
            "copy_gib_s": copy_bandwidth(),
            "models": entries,
        }

    def _notes(self) -> str:
        disk = "read from the disk" if self.cold_disk else "found in the page cache"
        return (
            f"Weights of a load from disk were {disk}. One batch at a time, one thread; times are "
            "the worker's own, the controller's share is order_s."
        )

    async def _restart(self) -> float:
        worker = self.backend.workers[0]
        for _ in range(2):
            os.kill(worker.pid or 0, 9)
            deaths = worker.deaths
            while worker.deaths == deaths:
                await asyncio.sleep(0.005)
            await worker.order("ping")
        return float(np.median(worker.start_s[1:]))

    async def _model(self, fn: int, model: Model) -> dict[str, Any]:
        loads, orders = await self._loads(fn)
        await self.backend.load(0, 0, fn, "host")
        first_s, curve, residuals = await self._curve(fn, model, orders)
        await self.backend.drop(0, 0, False)
        self.backend.drop_host(fn)
        sizes = np.array(sorted(curve))
        medians = np.array([curve[b] for b in sizes])
        alpha_s, beta_s = fit_line(sizes, medians)
        return {
            "architecture": model.architecture,
            "weights_bytes": model.data_bytes,
            "device_bytes": aligned(model.data_bytes),
            "load_s": {tier: quantiles(values) for tier, values in loads.items()},
            "order_s": quantiles(orders),
            "first_batch_s": first_s,
            "alpha_s": alpha_s,
            "beta_s": beta_s,
            "max_batch": int(sizes[-1]),
            "batch_s": {int(b): float(m) for b, m in zip(sizes, medians, strict=True)},
            "residual": quantiles(residuals),
        }

    async def _loads(self, fn: int) -> tuple[dict[str, list[float]], list[float]]:
        """Load again and again from each tier; also the time that an order spends on its way."""
        loads: dict[str, list[float]] = {"disk": [], "host": []}
        orders = []
        await self.backend.load(0, 0, fn, "disk")
        await self.backend.drop(0, 0, True)
        for tier, values in loads.items():
            for _ in range(self.passes):
                began = time.perf_counter()
                reply = await self.backend.load(0, 0, fn, tier)
                orders.append(time.perf_counter() - began - reply.seconds)
                values.append(reply.seconds)
                await self.backend.drop(0, 0, False)
        return loads, orders

    async def _curve(
        self, fn: int, model: Model, orders: list[float]
    ) -> tuple[float, dict[int, float], list[float]]:
        """Serve batches of each size; residuals are relative to the median of their size."""
        first = await self.backend.run(0, 0, [sample_payload(model.architecture, self.rng)])
        times: dict[int, list[float]] = {b: [] for b in self.batches}
        began = time.perf_counter()
        for done in range(self.passes):
            for size in self.batches:
                payloads = [sample_payload(model.architecture, self.rng) for _ in range(size)]
                sent = time.perf_counter()
                reply = await self.backend.run(0, 0, payloads)
                orders.append(time.perf_counter() - sent - reply.seconds)
                times[size].append(reply.seconds)
            if done >= 2 and time.perf_counter() - began > MAX_CURVE_S:
                break
        medians = {b: float(np.median(values)) for b, values in times.items()}
        residuals = [t / medians[b] - 1.0 for b, values in times.items() for t in values]
        return first.seconds, medians, residuals


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
    """Return p5, p25, p50, p75 and p95."""
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
        "load_average": os.getloadavg()[0],
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
