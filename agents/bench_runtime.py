"""The torch backend on this machine: overhead, copies, swaps, restarts, batches, decoding.

The same figures on a CPU and, with `device=cuda`, on a GPU. Budgets hold for the CPU; a swap on
CUDA must reach 80 % of the pinned copy's rate.  Models have random weights.

Units: seconds, milliseconds, GiB/s, tokens/s.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE

import numpy as np
from omegaconf import DictConfig

from stoker.agents.bench_decoding import decoding
from stoker.agents.bench_figure import Figure
from stoker.agents.bench_models import DECODER, SMALL_CNN, WIDE_CNN, write_random
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.spec import GIB, Cluster, Function, Gpu, Node, Rules
from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.catalog import Model, deploy
from stoker.runtime.controller import Controller
from stoker.runtime.payloads import sample_payload
from stoker.runtime.planner import warm_up

WARM_REQUESTS = 2000
SWAPS = 15
RESTARTS = 3
BATCHES = (1, 8, 32)
OVERHEAD_BUDGET_MS, RESTART_BUDGET_S = 1.0, 0.1
SWAP_BUDGETS = {"cpu": 0.7, "cuda": 0.8}


def measure(cfg: DictConfig) -> list[Figure]:
    """Measure every figure."""
    device, requests = str(cfg.device), int(cfg.requests or WARM_REQUESTS)
    with tempfile.TemporaryDirectory() as folder:
        small = write_random(Path(folder) / "small", SMALL_CNN)
        wide = write_random(Path(folder) / "wide", WIDE_CNN)
        decoder = write_random(Path(folder) / "decoder", DECODER)
        figures = asyncio.run(overhead(small, requests, device))
        figures += asyncio.run(swaps(wide, device))
        figures += asyncio.run(restarts(small, device))
        figures += asyncio.run(batches(small, device))
        return figures + asyncio.run(decoding(decoder, device))


@asynccontextmanager
async def _backend(model: Model, device: str) -> AsyncIterator[TorchBackend]:
    backend = TorchBackend(
        deploy([model], 1), [2 * aligned(model.data_bytes)], model.data_bytes, device
    )
    await backend.start()
    try:
        yield backend
    finally:
        await backend.close()


async def overhead(model: Model, requests: int, device: str) -> list[Figure]:
    """Latency of warm requests, one after the other, over the worker's own time for the model."""
    gib = model.data_bytes / GIB
    one = Function(model.name, gib, aligned(model.data_bytes) / GIB, alpha_s=0.001)
    cluster = Cluster(Node((Gpu(2 * one.device_gib, 1.0, sharing="exclusive"),)), (one,))
    rules = Rules(eviction="lru")
    warm_up(cluster, rules)
    payload = sample_payload(model, np.random.default_rng(0))
    async with _backend(model, device) as backend:
        controller = Controller(LiveEngine(cluster, rules), backend, [model.name])
        await controller.start(start_backend=False)
        taken, model_s = [], []
        await controller.request(0, payload)
        used = time.process_time()
        for _ in range(requests):
            began = time.perf_counter()
            answer = await controller.request(0, payload)
            taken.append(1000.0 * (time.perf_counter() - began - answer.service_s))
            model_s.append(answer.service_s)
        used = 1000.0 * (time.process_time() - used) / requests
    p50, p99 = np.percentile(taken, (50, 99))
    note = f"median {p50:.2f} ms; the model itself {1000.0 * statistics.median(model_s):.2f} ms"
    name = "warm overhead of a request, P99"
    echo_ms = 1000.0 * np.percentile(echoes(requests, statistics.median(model_s)), 99)
    return [
        Figure("runtime", name, float(p99), "ms", OVERHEAD_BUDGET_MS, False, note),
        Figure("runtime", "the same of an echo without any runtime, P99", float(echo_ms), "ms"),
        Figure("runtime", "CPU time of the controller a request", used, "ms"),
    ]


ECHO = """
import sys, time
for line in sys.stdin:
    began = time.perf_counter()
    while time.perf_counter() - began < float(line):
        pass
    print(time.perf_counter() - began, flush=True)
"""


def echoes(count: int, busy_s: float) -> list[float]:
    """Round trips to a process that is busy so long each time, less that: what the machine costs.

    On a machine that others use the P99 of this is several milliseconds, and so is the runtime's.
    """
    taken = []
    command = [sys.executable, "-c", ECHO]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as other:
        assert other.stdin is not None and other.stdout is not None
        for _ in range(count):
            began = time.perf_counter()
            other.stdin.write(f"{busy_s}\n")
            busy = float(other.stdout.readline())
            taken.append(time.perf_counter() - began - busy)
        other.stdin.close()
    return taken


async def swaps(model: Model, device: str) -> list[Figure]:
    """Loads from both tiers, against plain copies of as many bytes on the same machine."""
    kind = device.split(":")[0]
    rates: dict[str, list[float]] = {"host": [], "disk": []}
    async with _backend(model, device) as backend:
        await backend.load(0, 0, 0, "disk")
        await backend.drop(0, 0, True)
        for number in range(1, SWAPS + 1):
            for tier, values in rates.items():
                reply = await backend.load(0, number, 0, tier)
                values.append(model.data_bytes / GIB / reply.seconds)
                await backend.drop(0, number, True)
    plain = copy_rates(model.data_bytes, kind)
    size = f"{model.data_bytes / 1e6:.0f} MB"
    host, disk = (statistics.median(values) for values in rates.values())
    share = host / next(iter(plain.values()))
    budget = SWAP_BUDGETS[kind]
    return [
        *(Figure("runtime", f"{name} of {size}", rate, "GiB/s") for name, rate in plain.items()),
        Figure("runtime", f"swap, host to device, of {size}", host, "GiB/s"),
        Figure("runtime", "swap over the plain copy", share, "x", budget),
        Figure("runtime", f"load, page cache to device, of {size}", disk, "GiB/s"),
    ]


def copy_rates(size: int, kind: str) -> dict[str, float]:
    """Rates of plain copies; the first is the yardstick of swaps."""
    import torch

    if kind == "cpu":
        source, target = (torch.ones(size, dtype=torch.uint8) for _ in range(2))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return {"plain copy": _rate(source, target)}
        finally:
            torch.set_num_threads(threads)
    target = torch.ones(size, dtype=torch.uint8, device="cuda")
    pageable = torch.ones(size, dtype=torch.uint8)
    return {
        "pinned copy to the device": _rate(pageable.pin_memory(), target),
        "pageable copy to the device": _rate(pageable, target),
    }


def _rate(source: object, target: object) -> float:
    import torch

    assert isinstance(source, torch.Tensor) and isinstance(target, torch.Tensor)
    seconds = []
    for _ in range(SWAPS):
        began = time.perf_counter()
        target.copy_(source)
        if target.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return len(source) / GIB / statistics.median(seconds)


async def restarts(model: Model, device: str) -> list[Figure]:
    """Starts of a worker after it was killed."""
    async with _backend(model, device) as backend:
        worker = backend.workers[0]
        for _ in range(RESTARTS):
            deaths = worker.deaths
            os.kill(worker.pid or 0, 9)
            while worker.deaths == deaths:
                await asyncio.sleep(0.005)
            await worker.order("ping")
        again_s = statistics.median(worker.start_s[1:])
    # On CUDA a start is the making of a context, which no worker can inherit.
    budget = RESTART_BUDGET_S if device == "cpu" else None
    return [Figure("runtime", "start of a worker, restarted", again_s, "s", budget, False)]


async def batches(model: Model, device: str, sizes: Sequence[int] = BATCHES) -> list[Figure]:
    """Time of a batch in the worker, by size."""
    rng = np.random.default_rng(0)
    async with _backend(model, device) as backend:
        await backend.load(0, 0, 0, "disk")
        figures = []
        for size in sizes:
            payloads = [sample_payload(model, rng) for _ in range(size)]
            taken = [(await backend.run(0, 0, payloads)).seconds for _ in range(11)]
            median_ms = 1000.0 * statistics.median(taken[1:])
            figures.append(Figure("runtime", f"batch of {size}, small CNN", median_ms, "ms"))
    return figures
