"""Start-up, keep-alive and shared devices, by hand.  Units: seconds, tokens, blocks, bytes."""

from __future__ import annotations

from typing import Any

import pytest
from replica_reference import iteration_s

from stoker.envs.cluster import replay
from stoker.envs.cluster.llm import calibration

A, B = "meta-llama/Meta-Llama-3-8B|a100|tp1", "meta-llama/Llama-2-7b-hf|a100|tp1"
FIGURES = {name: dict(calibration.profile(name).figures) for name in (A, B)}
GIB = 2.0**30


def alone_s(name: str, prompt: int, output: int) -> list[float]:
    """Times of the iterations of a request that is served alone."""
    chunks = [iteration_s(FIGURES[name], prompt, [(prompt, 0)], [])]
    return chunks + [iteration_s(FIGURES[name], 1, [], [prompt + 1 + j]) for j in range(output - 1)]


def served(arrival_s: list[float], functions: Any, **asked: Any) -> replay.LlmFleetReplay:
    n = len(arrival_s)
    asked = {"prompt_tokens": [100] * n, "output_tokens": [3] * n} | asked
    return replay.llm_fleet(arrival_s, functions=functions, **asked)


def test_a_cold_start_delays_the_prompt() -> None:
    found = served([1.0], replay.LlmFunction(start="cold", load_s=5.0))
    first, *rest = alone_s(A, 100, 3)
    assert found.first_scheduled_s.tolist() == [5.0]
    assert found.first_token_s[0] == pytest.approx(5.0 + first, rel=1e-12)
    assert found.completed_s[0] == pytest.approx(5.0 + first + sum(rest), rel=1e-12)
    assert found.cold.tolist() == [True] and found.cold_starts.tolist() == [1]
    assert found.gpu_loading_s.tolist() == [5.0]
    assert found.gpu_busy_s[0] == pytest.approx(first + sum(rest), rel=1e-12)
    assert found.gpu_up_s[0] == found.completed_s[0]


def test_weights_load_over_the_link_of_each_gpu() -> None:
    """16.06 GB over 23.4 GiB/s; half of it at degree two, over two links."""
    whole = (13958643712 + 2101346304) / GIB / 23.4
    assert replay.LlmFunction().loading_s == pytest.approx(whole)
    pair = replay.LlmFunction("meta-llama/Meta-Llama-3-8B|a100|tp2|a100_dgx", start="cold")
    assert pair.loading_s == pytest.approx((6979321856 + 2101346304) / GIB / 23.4)
    found = served([0.0], pair)
    assert found.gpu_loading_s[0] == pytest.approx(2 * pair.loading_s)


def test_a_replica_comes_on_arrival_and_leaves_after_its_keep_alive() -> None:
    fn = replay.LlmFunction(start="on_arrival", load_s=2.0, keep_alive_s=10.0)
    lasts = sum(alone_s(A, 100, 3))
    done = 1.0 + 2.0 + lasts
    again = done + 9.0
    late = again + lasts + 10.5
    found = served([1.0, again, late], fn)
    assert found.first_scheduled_s == pytest.approx([3.0, again, late + 2.0], rel=1e-12)
    assert found.cold.tolist() == [True, False, True]
    assert found.cold_starts.tolist() == [2]
    # up from 1 until ten seconds after the second, and from the third on
    up = (again + lasts + 10.0 - 1.0) + (2.0 + lasts)
    assert found.gpu_up_s[0] == pytest.approx(up, rel=1e-12)
    assert found.gpu_busy_s[0] == pytest.approx(3 * lasts, rel=1e-12)


def test_another_replica_starts_when_each_has_scale_at_requests() -> None:
    fields = {"start": "on_arrival", "load_s": 2.0, "replicas": 3}
    one = served([0.0, 0.1, 0.2], replay.LlmFunction(**fields))
    assert one.replica.tolist() == [0, 0, 0] and one.cold_starts.tolist() == [1, 0, 0]
    each = served([0.0, 0.1, 0.2], replay.LlmFunction(**fields, scale_at=1))
    assert each.replica.tolist() == [0, 1, 2]
    assert each.first_scheduled_s.tolist() == [2.0, 2.1, 2.2]
    two = served([0.0, 0.1, 0.2], replay.LlmFunction(**fields, scale_at=2))
    assert two.replica.tolist() == [0, 0, 1]


def block_bytes(name: str) -> int:
    return 16 * FIGURES[name]["kv_token_bytes"]


def test_what_the_weights_leave_is_split_into_equal_parts() -> None:
    budget = int(0.9 * 80 * GIB)
    first = replay.LlmFunction(A, devices=(0,))
    alone = served([0.0], first)
    assert alone.num_blocks[0] == (budget - FIGURES[A]["weight_bytes"]) // block_bytes(A)
    both = served(
        [0.0, 50.0], (first, replay.LlmFunction(B, devices=(0,), start="on_arrival")),
        function=[0, 1],
    )  # fmt: skip
    left = budget - FIGURES[A]["weight_bytes"] - FIGURES[B]["weight_bytes"]
    assert both.num_blocks.tolist() == [left // 2 // block_bytes(A), left // 2 // block_bytes(B)]
    assert both.evictions.tolist() == [0]
    assert both.first_scheduled_s[1] == pytest.approx(50.0 + both.gpu_loading_s[1], rel=1e-12)


def crowded(blocks: int, more_bytes: int, other_s: float) -> replay.LlmFleetReplay:
    """Four requests hold 251 blocks each of A; B comes at `other_s`, in 16 tokens' time."""
    taken = sum(FIGURES[name]["weight_bytes"] for name in (A, B)) + blocks * block_bytes(A)
    return replay.llm_fleet(
        [0.0] * 4 + [other_s], [4000] * 4 + [16], [17] * 4 + [1],
        functions=(
            replay.LlmFunction(A, devices=(0,), max_tokens=4017, watermark=0.0, scheduler="vllm",
                               token_budget=16000, preset="stoker"),
            replay.LlmFunction(B, devices=(0,), max_tokens=160, watermark=0.0, start="on_arrival",
                               load_s=1.0),
        ),
        function=[0] * 4 + [1], memory_fraction=(taken + more_bytes + 0.5) / (80 * GIB),
    )  # fmt: skip


PROMPTS_S = iteration_s(FIGURES[A], 16000, [(4000, 0)] * 4, [])


def test_blocks_in_use_are_not_taken() -> None:
    # After the prompts each holds 250 blocks, with the next token 251.
    found = crowded(4 * 251, 100 * block_bytes(B), PROMPTS_S + 0.001)
    assert found.restarts.sum() == 0 and found.evictions.tolist() == [0]
    assert found.num_blocks.tolist() == [4 * 251, 100]
    assert found.first_scheduled_s[4] >= PROMPTS_S + 1.001


def test_who_finds_no_memory_waits_until_the_other_gives_blocks_back() -> None:
    # 11 blocks are the least of B: those of 160 tokens, and one
    found = crowded(4 * 251, 11 * block_bytes(B) - 1, PROMPTS_S + 0.001)
    assert found.refusals.tolist() == [1]
    assert found.first_scheduled_s[4] == pytest.approx(found.completed_s[0] + 1.0, rel=1e-12)
    enough = crowded(4 * 251, 11 * block_bytes(B), PROMPTS_S + 0.001)
    assert enough.refusals.tolist() == [0] and enough.num_blocks.tolist() == [4 * 251, 11]


def test_the_least_recently_used_leaves_and_nobody_in_vain() -> None:
    """Room for two of three; the third comes when the first was used last."""
    fn = [replay.LlmFunction(A, devices=(0,), start="on_arrival", load_s=1.0) for _ in range(3)]
    need = 2.9 * FIGURES[A]["weight_bytes"] / (80 * GIB)
    found = served(
        [0.0, 10.0, 20.0, 30.0, 40.0], fn, function=[0, 1, 0, 2, 0], memory_fraction=need
    )
    assert found.cold.tolist() == [True, True, False, True, False]
    assert found.evictions.tolist() == [1] and found.cold_starts.tolist() == [1, 1, 1]


def test_co_resident_replicas_compute_in_turn() -> None:
    pair = (replay.LlmFunction(A, devices=(0,)), replay.LlmFunction(B, devices=(0,)))
    found = served([0.0, 0.0], pair, function=[0, 1])
    a, b = alone_s(A, 100, 3), alone_s(B, 100, 3)
    assert found.first_token_s == pytest.approx([a[0], a[0] + b[0]], rel=1e-12)
    assert found.completed_s[0] == pytest.approx(a[0] + b[0] + a[1] + b[1] + a[2], rel=1e-12)
    assert found.completed_s[1] == pytest.approx(sum(a) + sum(b), rel=1e-12)
