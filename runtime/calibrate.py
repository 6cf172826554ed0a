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
from typing import Any

import numpy as np

from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.beside import Both, slow_each_other
from stoker.runtime.catalog import Deployment, Model, ModelError
from stoker.runtime.machine import copy_bandwidth, machine
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
    memory_bytes: int | None = None,
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
        memory_bytes: device memory to do it in, enough for each model; None = as much as helps.
            Models that do not fit at once are measured in groups. Loads beside batches take room
            for two models; where there is none the profile has no `beside`.
        seed: of the payloads.
        progress: told after each step.

    Returns:
        A profile: plain numbers, text and lists.

    Raises:
        ModelError: no model, or one that is larger than the memory.
    """
    if not models:
        raise ModelError("calibrate.models", 0, "at least one model")
    run = _Run(
        tuple(models), device, cold_disk, tuple(batches), passes, rest_s, memory_bytes, seed,
        progress,
    )  # fmt: skip
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
        memory_bytes: int | None,
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
        self.sizes = [aligned(d.device_bytes) for d in deployments[: len(models)]]
        # All models, and two that come and go.
        self.room = min(2 * sum(self.sizes), sum(self.sizes) + 2 * max(self.sizes))
        if memory_bytes is not None:
            self.room = min(self.room, memory_bytes)
        for model, size in zip(models, self.sizes, strict=True):
            if size > self.room:
                accepted = f"at most the device memory, {self.room} bytes"
                raise ModelError(f"{model.folder}: size", size, accepted)
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
            first, times, both = await self._batches()
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
            **({"beside": both.factors} if both.together.loads_s else {}),
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

    async def _batches(self) -> tuple[list[float], list[dict[int, list[float]]], Both]:
        """Serve batches of each model and size, and beside loads: by groups that fit at once."""
        first = [0.0 for _ in self.models]
        times: list[dict[int, list[float]]] = [{b: [] for b in self.batches} for _ in self.models]
        both = Both()
        for group in in_groups(self.sizes, self.room):
            for fn in group:
                await self.backend.load(0, fn, fn, "disk")
                first[fn] = (await self._batch(fn, 1)).seconds
            await self._curves(group, times, CURVES_S * len(group) / len(self.models))
            sizes = [self.sizes[fn] for fn in group]
            if sum(sizes) + max(sizes) <= self.room:
                behind = group[0] + 0.5 * len(group)
                self._tell("loads and batches at once", 0.2 + 0.3 * behind / len(self.models))
                await slow_each_other(self.backend, group, self.passes, self.rng, both)
            for fn in group:
                await self.backend.drop(0, fn, False)
            self._tell("batches", 0.2 + 0.3 * (group[-1] + 1) / len(self.models))
        return first, times, both

    async def _curves(
        self, group: Sequence[int], times: list[dict[int, list[float]]], limit_s: float
    ) -> None:
        """Serve batches of each loaded model and size in a random order."""
        began = time.perf_counter()
        pairs = [(fn, size) for fn in group for size in self.batches]
        for done in range(self.passes):
            for at in self.rng.permutation(len(pairs)):
                fn, size = pairs[at]
                await asyncio.sleep(self.rng.exponential(self.rest_s))
                times[fn][size].append((await self._batch(fn, size)).seconds)
            if done >= 2 and time.perf_counter() - began > limit_s:
                break

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


def in_groups(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Cut models, in their order, into groups that fit with one more of theirs, or are one."""
    groups: list[list[int]] = [[0]]
    for fn in range(1, len(sizes)):
        together = [sizes[k] for k in (*groups[-1], fn)]
        if sum(together) + max(together) <= room:
            groups[-1].append(fn)
        else:
            groups.append([fn])
    return groups


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
