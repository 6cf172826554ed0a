"""Random small replicas with too little memory, and their requests, for property tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

PROFILES = (
    "meta-llama/Meta-Llama-3-8B|a100|tp1",
    "meta-llama/Llama-2-7b-hf|h100|tp2|h100_dgx",
    "internlm/internlm-20b|a100|tp4|a100_dgx",
    "Qwen/Qwen-2-7B|a30|tp1",
    "microsoft/phi-2|a40|tp1",
)


@st.composite
def replicas(draw: st.DrawFn, schedulers: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of `llm_replica`: few blocks, ties in arrival, outputs of one token."""
    n = draw(st.integers(1, 24))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    scheduler = draw(st.sampled_from(schedulers))
    longest = draw(st.sampled_from((8, 60, 400)))
    prompt = rng.integers(1, longest + 1, n)
    output = rng.integers(1, draw(st.sampled_from((2, 40, 200))) + 1, n)
    block_size = draw(st.sampled_from((1, 4, 16)))
    max_tokens = draw(st.sampled_from((int((prompt + output).max()), longest + 30)))
    least = -(-max_tokens // block_size)
    gap = draw(st.sampled_from((0.0, 0.01, 0.1, 1.0)))
    return {
        "arrival_s": np.cumsum(np.round(rng.exponential(gap, n) * rng.integers(0, 2, n), 3)),
        "prompt_tokens": prompt,
        "output_tokens": output,
        "profile": draw(st.sampled_from(PROFILES)),
        "scheduler": scheduler,
        "token_budget": draw(st.sampled_from((8, 64, 512) if scheduler != "vllm" else (64, 2048))),
        "num_blocks": least + draw(st.integers(0, 2 * least)),
        "block_size": block_size,
        "max_batch": draw(st.sampled_from((1, 2, 8, 128))),
        "max_tokens": max_tokens,
        "watermark": draw(st.sampled_from((0.0, 0.01, 0.1))),
        "preset": draw(st.sampled_from(("vidur", "stoker"))),
        "client": rng.integers(0, min(n, 3), n),
    }
