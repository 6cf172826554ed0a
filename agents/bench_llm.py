"""Speed of an LLM replica: iterations a CPU-second, whether run one by one or in stretches.

And of 16 of them behind a router, at 70 % of what they can serve: seconds for a million requests.

Chat-like work on Llama-3-8B, one A100: lognormal lengths, Poisson arrivals at half of what the
replica can serve (about 14 iterations a request, as on the trace that Vidur ships), and at all of
it (3).
Reading the arguments and the result is part of the time. Vidur itself runs 5,000 to 8,000
iterations a second (2 cores, metrics off).

Units: iterations per CPU-second; CPU-seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from stoker.agents.bench_figure import Figure, cpu_seconds
from stoker.envs.cluster import replay

REQUESTS = 50_000
HALF_HZ, FULL_HZ = 4.0, 8.0
Z90 = 1.2815515655446004
BUDGET = 5e6
CASES = (
    ("sarathi", HALF_HZ, BUDGET), ("vllm", HALF_HZ, BUDGET), ("orca", HALF_HZ, BUDGET),
    ("request_level", HALF_HZ, None), ("fastserve", HALF_HZ, None), ("vtc", HALF_HZ, None),
    ("sarathi", FULL_HZ, None), ("vllm", FULL_HZ, None),
)  # fmt: skip


REPLICAS, FLEET_HZ, FLEET_REQUESTS = 16, 16 * 0.7 * FULL_HZ, 1_000_000
FLEET_BUDGET_S = 20.0
ROUTERS = ("round_robin", "least_outstanding", "freeness")


def measure(cfg: DictConfig) -> list[Figure]:
    """Measure every case."""
    n, repeats = int(cfg.requests or REQUESTS), int(cfg.repeats)
    replicas = [_case(*case, n, repeats) for case in CASES]
    n = int(cfg.requests or FLEET_REQUESTS)
    return replicas + [_fleet(router, n, repeats) for router in ROUTERS]


def chat(requests: int, rate_hz: float, seed: int = 0) -> dict[str, Any]:
    """Draw requests: median prompt 900 tokens (90th percentile 2,500), output 180 (420)."""
    rng = np.random.default_rng(seed)

    def lengths(median: float, p90: float, most: int) -> NDArray[np.int64]:
        drawn = np.exp(rng.normal(np.log(median), np.log(p90 / median) / Z90, requests))
        return np.clip(drawn, 1, most).astype(np.int64)

    return {
        "arrival_s": np.cumsum(rng.exponential(1.0 / rate_hz, requests)),
        "prompt_tokens": lengths(900.0, 2500.0, 3000),
        "output_tokens": lengths(180.0, 420.0, 1000),
        "client": np.arange(requests) % min(requests, 8),
    }


def _case(
    scheduler: str, rate_hz: float, budget: float | None, requests: int, repeats: int
) -> Figure:
    work = chat(requests, rate_hz)
    tokens = 512 if scheduler == "sarathi" else 4096

    def run() -> int:
        return replay.llm_replica(**work, scheduler=scheduler, token_budget=tokens).iterations

    iterations = run()
    rate = iterations / cpu_seconds(run, repeats)
    load = "half" if rate_hz == HALF_HZ else "full"
    note = f"{iterations / requests:.1f} iterations a request"
    return Figure("llm", f"{scheduler}, {load} load", rate, "iterations/s", budget, note=note)


def _fleet(router: str, requests: int, repeats: int) -> Figure:
    work = chat(requests, FLEET_HZ)
    functions = replay.LlmFunction(replicas=REPLICAS)

    def run() -> replay.LlmFleetReplay:
        return replay.llm_fleet(**work, functions=functions, router=router)

    iterations = run().iterations.sum()
    taken_s = cpu_seconds(run, repeats)
    return Figure(
        "llm", f"{REPLICAS} replicas, {router}", taken_s * 1e6 / requests, "s/M requests",
        FLEET_BUDGET_S, more_is_better=False,
        note=f"{iterations / taken_s / 1e6:.1f} M iterations/s",
    )  # fmt: skip
