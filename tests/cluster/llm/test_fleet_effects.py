"""Published effects of fleets of LLM replicas; docs/effects.md has the figures.

Llama-3-8B on A100s, roofline form, vLLM's scheduler; lengths lognormal.

Units: seconds, tokens, requests per second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stoker.envs.cluster import replay

Z90 = 1.2815515655446004
SEEDS = (0, 1, 2)
Lengths = tuple[float, float]


def chat(
    requests: int, rate_hz: float, seed: int, prompt: Lengths, output: Lengths, longest: int
) -> dict[str, Any]:
    """Poisson arrivals; medians and 90th percentiles of prompt and output."""
    rng = np.random.default_rng(seed)
    arrival_s = np.cumsum(rng.exponential(1.0 / rate_hz, requests))
    drawn = [
        np.exp(rng.normal(np.log(m), np.log(p90 / m) / Z90, requests))
        for m, p90 in (prompt, output)
    ]
    return {
        "arrival_s": arrival_s,
        "prompt_tokens": np.clip(drawn[0], 1, longest * 3 // 4).astype(int),
        "output_tokens": np.clip(drawn[1], 2, longest // 4).astype(int),
    }


def crowded(seed: int, router: str, every_s: float | None) -> tuple[float, int]:
    """99th percentile of the first token, and restarts; eight replicas short of memory."""
    work = chat(6000, 16.0, seed, (300.0, 1500.0), (300.0, 1500.0), 8192)
    fn = replay.LlmFunction(
        replicas=8, scheduler="vllm", token_budget=8192, max_tokens=8192, num_blocks=1600,
        preset="stoker", migrate_every_s=every_s, migrate_below=20.0, kv_gib_s=4.0,
    )  # fmt: skip
    found = replay.llm_fleet(**work, functions=fn, router=router)
    return float(np.percentile(found.first_token_s - work["arrival_s"], 99)), int(
        found.restarts.sum()
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_llumnix_dispatch_and_migration_cut_the_tail_of_the_first_token(seed: int) -> None:
    turns_s, restarts = crowded(seed, "round_robin", None)
    moved_s, moved_restarts = crowded(seed, "round_robin", 0.1)
    free_s, free_restarts = crowded(seed, "freeness", None)
    both_s, both_restarts = crowded(seed, "freeness", 0.1)
    print(f"seed {seed}: P99 first token {turns_s:.2f} {moved_s:.2f} {free_s:.2f} {both_s:.2f} s,"
          f" restarts {restarts} {moved_restarts} {free_restarts} {both_restarts}")  # fmt: skip
    assert turns_s > 6 * moved_s and restarts > 9 * moved_restarts
    assert turns_s > 10 * both_s
    assert both_restarts < free_restarts < restarts


def goodput_hz(seed: int, ttft_s: float, tpot_s: float, **fields: Any) -> float:
    """Largest rate at which nine in ten keep both targets, on four GPUs."""
    low, high = 0.2, 30.0
    fn = replay.LlmFunction(
        scheduler="vllm", token_budget=16384, max_tokens=16384, preset="stoker", **fields
    )
    for _ in range(9):
        rate_hz = (low + high) / 2
        work = chat(1000, rate_hz, seed, (1730.0, 5696.0), (415.0, 834.0), 16384)
        found = replay.llm_fleet(**work, functions=fn, router="least_outstanding")
        first_s = found.first_token_s - work["arrival_s"]
        token_s = (found.completed_s - found.first_token_s) / (work["output_tokens"] - 1)
        kept = ((first_s <= ttft_s) & (token_s <= tpot_s)).mean()
        low, high = (rate_hz, high) if kept >= 0.9 else (low, rate_hz)
    return low


APART = {"replicas": 2, "decode_replicas": 2}


@pytest.mark.parametrize("seed", SEEDS)
def test_distserve_wins_under_tight_targets_and_loses_with_a_slow_link(seed: int) -> None:
    tight = {"ttft_s": 1.0, "tpot_s": 0.02}
    together = goodput_hz(seed, **tight, replicas=4)
    apart = goodput_hz(seed, **tight, **APART)
    slow = goodput_hz(seed, **tight, **APART, kv_gib_s=0.5)
    loose = [goodput_hz(seed, 2.0, 0.1, **x) for x in ({"replicas": 4}, APART)]
    print(f"seed {seed}: together {together:.2f} apart {apart:.2f} slow {slow:.2f} loose {loose}")
    assert apart > 1.1 * together
    assert slow < 0.5 * together
    assert loose[1] < loose[0]
