"""The token budget as an order: by hand and against fixed schedulers; tokens that are late."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from small_replicas import replicas

from stoker.envs.cluster import replay
from stoker.envs.cluster.decision import LEAST_TOKENS, MOST_TOKENS, Capabilities, Decision, legalize
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.llm import calibration
from stoker.envs.cluster.llm_spec import llm_function
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import GIB, Cluster, Function, Gpu, Llm, Node
from stoker.envs.workload.workload import Workload

LLAMA = "meta-llama/Meta-Llama-3-8B|a100|tp1"
FIELDS = ("start_s", "first_token_s", "finish_s", "max_tbt_s")


def trace(
    arrival_s: Any, prompt: Any, output: Any, until_s: float = 1e5, names: tuple[str, ...] = ("f",)
) -> Workload:
    n = len(arrival_s)
    return Workload(
        np.asarray(arrival_s, float), np.zeros(n, np.int32), names, until_s,
        prompt_tokens=np.asarray(prompt, np.int32), output_tokens=np.asarray(output, np.int32),
    )  # fmt: skip


def alone(llm: Llm, work: Workload, **changes: Any) -> Simulation:
    """One function on GPUs of its own."""
    f = llm_function("f", llm, **changes)
    return Simulation([Cluster(Node((Gpu(1000.0),) * f.gpus), (f,))], [work])


def order(sim: Simulation, budget: float) -> None:
    sim.apply(Decision(token_budget=np.full((1, sim.state.fn.shape[1]), budget)))


def bursts(seed: int, n: int = 120) -> Workload:
    """Four a second in groups, prompts up to 3,000 tokens."""
    rng = np.random.default_rng(seed)
    arrival = np.sort(rng.uniform(0.0, n / 4.0, n // 3).repeat(3))
    return trace(arrival, rng.integers(50, 3000, n), rng.integers(2, 300, n))


@pytest.mark.parametrize("budget", [128, 512, 2048])
def test_a_budget_that_is_held_is_that_budgets_scheduler_to_the_byte(budget: int) -> None:
    work = bursts(budget)
    fixed = alone(Llm(LLAMA, token_budget=budget), work)
    ordered = alone(Llm(LLAMA, token_budget=700), work)
    for t in range(60):
        order(ordered, budget)
        for sim in (fixed, ordered):
            sim.run(float(t))
    ours, theirs = ordered.result().outcome, fixed.result().outcome
    for name in FIELDS:
        assert getattr(ours, name).tobytes() == getattr(theirs, name).tobytes()
    assert ordered.result().counters["clipped"] == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(replicas(("sarathi",)))
def test_whole_prompts_first_is_the_order_of_vllm(asked: dict[str, Any]) -> None:
    figures = calibration.profile(asked["profile"]).figures
    block_bytes = figures["tp"] * figures["kv_token_bytes"] * asked["block_size"]
    same = ("profile", "block_size", "max_batch", "max_tokens", "watermark")
    llm = Llm(
        **{name: asked[name] for name in same}, kv_gib=block_bytes * asked["num_blocks"] / GIB,
        requests=1000,
    )  # fmt: skip
    work = trace(asked["arrival_s"], asked["prompt_tokens"], asked["output_tokens"], 1e6)
    limit = max(2048, asked["max_tokens"])
    vllm = alone(replace(llm, scheduler="vllm", token_budget=limit), work)
    whole = alone(replace(llm, token_budget=33), work)
    order(whole, 0)
    for sim in (vllm, whole):
        sim.run()
    ours, theirs = whole.result().outcome, vllm.result().outcome
    assert np.array_equal(ours.tier, theirs.tier)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def iteration_s(chunk: int, before: int, contexts: list[int]) -> float:
    """Time of an iteration by the formula of docs/llm.md: one chunk beside decodes."""
    known = calibration.profile(LLAMA)
    tokens, decodes = chunk + len(contexts), len(contexts)
    ms = known.token_ms("roofline")[(tokens + 7) // 8 - 1]
    if chunk:
        p0, p1, p2, p3, p4 = known.figures["prefill_layer_ms"]
        prefill = p1 + p2 * chunk + p3 * chunk * (before + chunk / 2) + p4 * before
        ms += known.layers * max(p0, prefill)
    if decodes:
        d0, d1, e0, e1, e2 = known.figures["decode_layer_ms"]
        g = 1.0 + (known.figures["batch_overhead"] if decodes > 1 else 0.0)
        worst = max(d0 + d1 * decodes, e0 + e1 * decodes + e2 * sum(contexts))
        ms += known.layers * g * worst
    return float(ms) / 1e3


def test_a_budget_that_changes_counts_from_the_next_iteration_on() -> None:
    # A (prompt 40, output 10) alone, then B (prompt 600) is cut by the budget that stands: 100
    # beside A's decode, from the change on 300.
    work = trace([0.0, 0.1], [40, 600], [50, 2])
    sim = alone(Llm(LLAMA, token_budget=100), work)
    order(sim, 100)
    t, context = iteration_s(40, 0, []), 41
    while t < 0.1:
        t += iteration_s(0, 0, [context])
        context += 1
    began_b = t
    t += iteration_s(99, 0, [context])
    sim.run(t - 1e-6)  # the first chunk of B still runs: the new budget counts after it
    order(sim, 300)
    t += iteration_s(299, 99, [context + 1])
    t += iteration_s(202, 398, [context + 2])
    sim.run(t + 1e-6)
    seen = sim.result().outcome
    assert seen.start_s == pytest.approx([0.0, began_b], rel=1e-9)
    assert seen.first_token_s is not None
    assert seen.first_token_s[1] == pytest.approx(t, rel=1e-9)


def test_a_stretch_ends_with_the_iteration_in_which_its_budget_changes() -> None:
    # Sixteen decodes use up a budget of 16: a prompt that came after them has to wait for ever,
    # until the budget grows, in the middle of what was planned as one stretch.
    n = 16
    work = trace([0.0] * n + [0.5], [8] * n + [64], [400] * n + [2])
    sim = alone(Llm(LLAMA, token_budget=128), work)
    sim.run(0.2)
    order(sim, 16)
    t = iteration_s_many(n, 8)
    context = 9
    while t < 2.0:
        t += iteration_s(0, 0, [context] * n)
        context += 1
    sim.run(2.0)
    order(sim, 128)
    sim.run(3.0)
    seen = sim.result().outcome
    assert seen.start_s[n] == pytest.approx(t, rel=1e-9)


def iteration_s_many(chunks: int, each: int) -> float:
    """Time of an iteration of several whole prompts of one length."""
    known = calibration.profile(LLAMA)
    p0, p1, p2, p3, _ = known.figures["prefill_layer_ms"]
    one = max(p0, p1 + p2 * each + p3 * each * each / 2)
    ms = known.token_ms("roofline")[(chunks * each + 7) // 8 - 1]
    return float(ms + known.layers * (1.0 + known.figures["batch_overhead"]) * chunks * one) / 1e3


def test_prompts_that_were_begun_in_chunks_are_finished_first_when_they_go_whole() -> None:
    work = trace([0.0, 0.001], [600, 64], [2, 2])
    sim = alone(Llm(LLAMA, token_budget=100), work)
    first_s = iteration_s(100, 0, [])
    sim.run(first_s - 1e-6)
    order(sim, 0)
    sim.run()
    seen = sim.result().outcome
    # What is left of the first goes with all of the second in one batch of prompts.
    assert seen.first_token_s is not None
    assert seen.first_token_s[0] == seen.first_token_s[1]
    assert seen.start_s[1] == pytest.approx(first_s, rel=1e-9)


def test_an_order_is_clipped_to_what_there_is_and_counted() -> None:
    asked = Decision(token_budget=np.array([[-3.0, 0.0, 5.0, 16.0, 1e9, np.nan]]))
    legal, clipped = legalize(asked, Capabilities(), np.ones(6, np.int32))
    assert legal.token_budget is not None
    expected = [[0, 0, LEAST_TOKENS, 16, MOST_TOKENS, 512]]
    assert legal.token_budget.tolist() == expected
    assert clipped.tolist() == [[1, 0, 1, 0, 1, 1]]


def test_functions_that_do_not_cut_prompts_keep_theirs() -> None:
    cut, orca = Llm(LLAMA, kv_gib=2.0), Llm(LLAMA, "orca", kv_gib=2.0)
    functions = (llm_function("a", cut), llm_function("b", orca), Function("c", 1.0, 1.0))
    cluster = Cluster(Node((Gpu(80.0),)), functions)
    work = trace([1.0], [10], [10], names=("a", "b", "c"))
    sim = Simulation([cluster], [work])
    order(sim, 256)
    assert sim.state.fn["token_budget"][0, :2].tolist() == [256, 512]
    assert sim.state.rows["clipped"].tolist() == [1]  # the batch function has nothing to clip


@settings(max_examples=60, deadline=None, derandomize=True)
@given(replicas(("sarathi", "vllm", "orca")))
def test_late_tokens_are_those_of_every_single_iteration(asked: dict[str, Any]) -> None:
    logged = replay.llm_replica(**{**asked, "preset": "stoker", "log_iterations": 100_000})
    times: dict[int, list[float]] = {}
    progress = dict.fromkeys(range(len(asked["arrival_s"])), 0)
    for k in range(len(logged.log.start_s)):
        for q, tokens in zip(logged.log.members[k], logged.log.member_tokens[k], strict=True):
            due = asked["prompt_tokens"][q]
            progress[q] += tokens
            if progress[q] >= due:
                times.setdefault(q, []).append(float(logged.log.end_s[k]))
    gaps = {q: np.diff(at) for q, at in times.items()}
    assume(not logged.restarts.any() and any(map(len, gaps.values())))
    tbt_s = float(np.median(np.concatenate(list(gaps.values())))) * 1.0001
    figures = calibration.profile(asked["profile"]).figures
    block_bytes = figures["tp"] * figures["kv_token_bytes"] * asked["block_size"]
    same = ("profile", "scheduler", "token_budget", "block_size", "max_batch", "max_tokens")
    llm = Llm(
        **{name: asked[name] for name in same}, watermark=asked["watermark"], requests=1000,
        kv_gib=block_bytes * asked["num_blocks"] / GIB, tbt_s=tbt_s,
    )  # fmt: skip
    work = trace(asked["arrival_s"], asked["prompt_tokens"], asked["output_tokens"], 1e6)
    sim = alone(llm, work)
    for t in np.linspace(0.0, 1.0123 * float(np.nanmax(logged.completed_s)), 20):
        sim.run(t)
        sim.result()  # brings the books up to date
        books = sim.state.lanes.lane[0, 0]  # type: ignore[union-attr]
        assert books["gaps"] == sum(int((np.array(at[1:]) <= t).sum()) for at in times.values())
    sim.run()
    late = sim.result().outcome.late_tokens
    assert late is not None
    for q, gap in gaps.items():
        near = np.isclose(gap, tbt_s, rtol=1e-7)
        assert abs(int(late[q]) - int((gap > tbt_s).sum())) <= near.sum()
    books = sim.state.lanes.lane[0, 0]  # type: ignore[union-attr]
    assert books["gaps"] == sum(map(len, gaps.values()))
    assert books["gap_s"] == pytest.approx(sum(g.sum() for g in gaps.values()), rel=1e-7)
    assert books["late"] == late.sum()
    shares = late / np.maximum(asked["output_tokens"] - 1, 1)
    assert books["late_share"] == pytest.approx(shares.sum())


@pytest.mark.parametrize(("name", "value"), [("ttft_s", 0.0), ("tbt_s", -1.0), ("tbt_s", np.nan)])
def test_a_target_that_is_none_is_named(name: str, value: float) -> None:
    with pytest.raises(SpecError, match=f"llm.{name}"):
        llm_function("f", Llm(LLAMA, **{name: value}))
