"""Tokens a second of a decoder in a real worker, by the number of requests at a time.

Units: seconds, tokens, tokens/s.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import numpy as np

from stoker.agents.bench_figure import Figure
from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.backend_protocol import Listener
from stoker.runtime.catalog import Generation, Model, deploy

CONCURRENCY = (1, 4, 16, 32)
NEW_TOKENS = 32
REQUESTS_EACH = 2
"""Requests of each of those that run at a time."""
REPEATS = 3
RATIO_BUDGET = 3.0
HOW = Generation(blocks=512, max_batch=max(CONCURRENCY), token_budget=512)


async def decoding(model: Model, device: str) -> list[Figure]:
    """Measure the curve, and the ratio of its best to one request at a time."""
    deployments = deploy([model], 1, HOW)
    backend = TorchBackend(deployments, [aligned(deployments[0].device_bytes)], 0, device)
    await backend.start()
    try:
        await backend.load(0, 0, 0, "disk")
        await throughput(backend, 4)
        rates: dict[int, list[float]] = {n: [] for n in CONCURRENCY}
        # In turn, so that what else the machine does falls on all of them.
        for _ in range(REPEATS):
            for n, values in rates.items():
                values.append(await throughput(backend, n))
        first_ms, between_ms = await _times(backend)
    finally:
        await backend.close()
    curve = {n: statistics.median(values) for n, values in rates.items()}
    ratio = max(curve.values()) / curve[1]
    shape = model.config
    note = f"{shape['num_hidden_layers']} layers of {shape['hidden_size']}, prompts of 16 to 64"
    return [
        Figure(
            "runtime", "continuous batching over one by one", ratio, "x", RATIO_BUDGET, note=note
        ),
        *(
            Figure("runtime", f"decoding, {n} at a time", rate, "tokens/s")
            for n, rate in curve.items()
        ),
        Figure("runtime", "first token, 8 at a time", first_ms, "ms"),
        Figure("runtime", "between tokens, 8 at a time, P99", between_ms, "ms"),
    ]


def prompts(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Draw requests of 16 to 64 tokens."""
    rng = np.random.default_rng(seed)
    return [
        {"prompt": rng.integers(0, 2000, rng.integers(16, 65)).tolist(), "max_tokens": NEW_TOKENS}
        for _ in range(count)
    ]


async def throughput(backend: TorchBackend, at_a_time: int) -> float:
    """Tokens a second, prompts not counted, with so many requests open all the time."""
    waiting = prompts(max(at_a_time * REQUESTS_EACH, 4))
    count = len(waiting)

    async def client() -> None:
        while waiting:
            await backend.run(0, 0, [waiting.pop()])

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_a_time)))
    return count * NEW_TOKENS / (time.perf_counter() - began)


async def _times(backend: TorchBackend, at_a_time: int = 8) -> tuple[float, float]:
    """Median time to the first token, and the 99th percentile between tokens, in milliseconds."""
    first: list[float] = []
    between: list[float] = []

    async def client(payload: dict[str, Any]) -> None:
        heard = [time.perf_counter()]
        listener = Listener(lambda index, token, text: heard.append(time.perf_counter()))
        await backend.run(0, 0, [payload], listener)
        first.append(heard[1] - heard[0])
        between.extend(np.diff(heard[1:]).tolist())

    await asyncio.gather(*(client(payload) for payload in prompts(at_a_time, seed=1)))
    return 1000.0 * statistics.median(first), 1000.0 * float(np.percentile(between, 99))
