"""Requests that leave a shared device as tokens, by hand; the effect.  Units: seconds, tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fleet import ROUTERS
from test_fleet_startup import FIGURES, GIB, A, alone_s, block_bytes

from stoker.envs.cluster import replay
from stoker.envs.cluster.errors import SpecError

WEIGHTS = FIGURES[A]["weight_bytes"]
ONE = (WEIGHTS + 1000 * block_bytes(A)) / (80 * GIB)
"""Memory of a device for one replica of Llama-3-8B and 1,000 blocks."""


def starts(when_full: str, on_1: int = 1, **fields: Any) -> replay.LlmFleetReplay:
    """One request runs on device 0, on 1 none or another; at 1 s a second model is called on 0."""
    first = replay.LlmFunction(replicas=2, devices=(0, 1), max_tokens=1024, **fields)
    second = replay.LlmFunction(devices=(0,), max_tokens=1024, start="on_arrival", load_s=1.0)
    output = [300, 300 if on_1 else 1, 2]
    return replay.llm_fleet(
        [0.0, 0.0, 1.0], [400, 10, 100], output, (first, second), function=[0, 0, 1],
        memory_fraction=ONE, when_full=when_full,
    )  # fmt: skip


def test_who_finds_no_memory_waits_until_the_other_is_done() -> None:
    found = starts("wait")
    done = sum(alone_s(A, 400, 300))
    assert found.completed_s[0] == pytest.approx(done, rel=1e-12)
    assert found.first_scheduled_s[2] == pytest.approx(done + 1.0, rel=1e-12)
    assert found.token_migrations.tolist() == [0, 0]


def test_the_request_in_the_way_goes_on_elsewhere() -> None:
    """It leaves with the iteration under way, and its tokens are computed again on device 1."""
    found = starts("move_tokens", on_1=0)
    ends = np.cumsum(alone_s(A, 400, 300))
    out = int((ends < 1.0).sum()) + 1
    left = float(ends[out - 1])
    assert found.first_scheduled_s[2] == pytest.approx(left + 1.0, rel=1e-12)
    again = alone_s(A, 400 + out, 300 - out)
    assert found.completed_s[0] == pytest.approx(left + sum(again), rel=1e-12)
    assert found.max_tbt_s[0] == pytest.approx(again[0], rel=1e-9)
    assert found.token_migrations.tolist() == [1, 0] and found.restarts.tolist() == [1, 0, 0]
    assert found.evictions.tolist() == [1, 0]


def test_nobody_leaves_who_would_have_no_place() -> None:
    found = starts("move_tokens", max_batch=1)
    assert found.token_migrations.tolist() == [0, 0]
    done = sum(alone_s(A, 400, 300))
    assert found.first_scheduled_s[2] == pytest.approx(done + 1.0, rel=1e-12)


def test_the_one_with_fewest_tokens_leaves() -> None:
    """Two models on device 0, each with a replica on its own device besides; a third is called."""
    fields = {"replicas": 2, "max_tokens": 1024}
    known = (
        replay.LlmFunction(**fields, devices=(0, 1)), replay.LlmFunction(**fields, devices=(0, 2)),
        replay.LlmFunction(devices=(0,), max_tokens=1024, start="on_arrival", load_s=1.0),
    )  # fmt: skip
    found = replay.llm_fleet(
        [0.0, 0.0, 1.0], [600, 200, 100], [300, 300, 2], known, function=[0, 1, 2],
        memory_fraction=(2 * WEIGHTS + 1000 * block_bytes(A)) / (80 * GIB),
        when_full="move_tokens",
    )  # fmt: skip
    assert found.token_migrations.tolist() == [0, 1, 0]
    assert found.restarts.tolist() == [0, 1, 0]


def cold_and_warm_s(seed: int, when_full: str) -> tuple[float, float, float, int]:
    """Four devices of a model each: one is on all as it needs, four others are called rarely.

    Returns median and 99th percentile of the time to the first token of the four, the 99th
    percentile of the first model's, and the requests moved.
    """
    rng, until_s = np.random.default_rng(seed), 1500.0
    arrival_s = rng.uniform(0.0, until_s, int(1.1 * until_s))
    order = np.argsort(arrival_s)
    arrival_s = arrival_s[order]
    function = np.where(order < until_s, 0, 1 + order % 4)
    prompt = rng.integers(100, 1000, len(order))
    output = np.where(function == 0, rng.integers(100, 900, len(order)), 50)
    fields = {"max_tokens": 2048, "load_s": 1.0, "start": "on_arrival"}
    known = [replay.LlmFunction(replicas=4, devices=range(4), scale_at=4, **fields)]
    known += [replay.LlmFunction(devices=(k,), keep_alive_s=5.0, **fields) for k in range(4)]
    found = replay.llm_fleet(
        arrival_s, prompt, output, known, function, "least_outstanding", 0.25, when_full=when_full
    )
    first_s = found.first_token_s - arrival_s
    median_s, tail_s = np.percentile(first_s[function > 0], (50, 99))
    warm_s = np.percentile(first_s[function == 0], 99)
    return float(median_s), float(tail_s), float(warm_s), int(found.token_migrations[0])


@pytest.mark.parametrize("seed", (0, 1, 2, 3, 4))
def test_serverlessllm_migration_cuts_the_start_up_tail(seed: int) -> None:
    waits, moves = (cold_and_warm_s(seed, rule) for rule in ("wait", "move_tokens"))
    print(f"seed {seed}: first token of the four, median and P99, of the first model, P99; moved:"
          f" {waits} {moves}")  # fmt: skip
    assert waits[3] == 0 and moves[3] > 100
    assert waits[1] > 8 * moves[1] and waits[0] > 1.5 * moves[0]
    # What it costs: those that move are computed again, and the first model starts more often.
    assert waits[2] < moves[2] < 2.5 * waits[2]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(2, 3), st.sampled_from(ROUTERS),
    st.sampled_from((1.2, 1.9, 2.2)), st.sampled_from((2.0, 4.0, 12.0)),
)  # fmt: skip
def test_every_request_ends_and_memory_suffices(
    seed: int, count: int, router: str, weights: float, requests: float
) -> None:
    """Two devices with memory for one or two models, and for the blocks of a few requests."""
    rng = np.random.default_rng(seed)
    n, longest = int(rng.integers(3, 40)), int(rng.choice((60, 400)))
    most = longest + 200
    known = [
        replay.LlmFunction(
            replicas=2, devices=(0, 1), start="up" if i == 0 else "on_arrival", load_s=0.3,
            scheduler=str(rng.choice(("sarathi", "vllm", "orca", "vtc"))), token_budget=2048,
            max_tokens=most, max_batch=int(rng.choice((1, 2, 8))), watermark=0.01,
            preset=str(rng.choice(("vidur", "stoker"))),
        )
        for i in range(count)
    ]  # fmt: skip
    fraction = (weights * WEIGHTS + requests * most / 16 * block_bytes(A)) / (80 * GIB)
    found = replay.llm_fleet(
        np.cumsum(np.round(rng.exponential(0.1, n), 3)), rng.integers(1, longest + 1, n),
        rng.integers(1, 201, n), known, rng.integers(0, count, n), router, fraction,
        when_full="move_tokens",
    )  # fmt: skip
    assert np.isfinite(found.completed_s[~found.rejected]).all()
    assert (found.peak_gib <= 80 * fraction).all()
    assert (found.peak_blocks * block_bytes(A) <= 80 * GIB * fraction - WEIGHTS).all()


@pytest.mark.parametrize(
    ("budget", "when_full", "says"),
    [
        (2048, "swap", r"when_full = 'swap' .*wait \| move_tokens"),
        (1023, "move_tokens", r"functions\[0\].token_budget = 1023 .*>= 1024, max_tokens"),
    ],
)
def test_a_bad_value_is_one_line(budget: int, when_full: str, says: str) -> None:
    fn = replay.LlmFunction(
        devices=(0,), scheduler="vllm", token_budget=budget, max_tokens=1024
    )  # fmt: skip
    with pytest.raises(SpecError, match=says):
        replay.llm_fleet([0.0], [10], [3], fn, when_full=when_full)


def test_without_shared_devices_there_is_nothing_to_leave() -> None:
    with pytest.raises(SpecError, match=r"when_full = 'move_tokens' .*wait, without `devices`"):
        replay.llm_fleet([0.0], [10], [3], replay.LlmFunction(), when_full="move_tokens")
