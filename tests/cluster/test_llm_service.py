"""LLM functions of a cluster: against a single replica, and hand-worked cases.

Units: seconds, GiB, tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_llms import BLOCK, kv_gib

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.idle import close_episode
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.llm import calibration
from stoker.envs.cluster.llm_spec import llm_function
from stoker.envs.cluster.outcome import Result
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import GIB, Cluster, Function, Gpu, Link, Llm, Node, Rules
from stoker.envs.cluster.tables import EXPERTS
from stoker.envs.workload.workload import Workload

LLAMA = "meta-llama/Meta-Llama-3-8B|a100|tp1"
HORIZON_S = 1e6
WARM, COLD, DROPPED = 0, 1, 2


def traffic(
    calls: list[tuple[float, int, int, int]], functions: int = 1, horizon_s: float = HORIZON_S
) -> Workload:
    """Requests (arrival, function, prompt, output); of a batch function the counts are 0."""
    at, function, prompt, output = (np.array(column) for column in zip(*calls, strict=True))
    names = tuple(f"f{k}" for k in range(functions))
    return Workload(
        at.astype(float), function.astype(np.int32), names, horizon_s,
        prompt_tokens=prompt.astype(np.int32), output_tokens=output.astype(np.int32),
    )  # fmt: skip


def run(
    functions: list[Function], workload: Workload, nodes: Node, rules: Rules | None = None
) -> Result:
    named = tuple(replace(f, name=f"f{k}") for k, f in enumerate(functions))
    sim = Simulation([Cluster(nodes, named)], [workload], rules)
    sim.run()
    return sim.result()


def linear_s(n: int) -> float:
    """Closed form of docs/llm.md: linear layers of Llama-3-8B on n tokens, rounded up to 8."""
    r0, r1, r2, r3 = calibration.profile(LLAMA).figures["roofline_ms"]
    n = -(-n // 8) * 8
    return float(max(r0 + r1 * n, r2 + r3 * n)) / 1e3


def prompts_s(*chunks: int) -> float:
    """An iteration of whole prompts, alone."""
    figures = calibration.profile(LLAMA).figures
    p = figures["prefill_layer_ms"]
    each = [max(p[0], p[1] + p[2] * c + p[3] * c * 0.5 * c) for c in chunks]
    scale = 1.0 + figures["batch_overhead"] * (len(chunks) > 1)
    return linear_s(sum(chunks)) + float(figures["layers"] * scale * sum(each)) / 1e3


def decodes_s(*contexts: int) -> float:
    """An iteration of decodes, each after so many tokens."""
    figures = calibration.profile(LLAMA).figures
    d0, d1, e0, e1, e2 = figures["decode_layer_ms"]
    b = len(contexts)
    attention = max(d0 + d1 * b, e0 + e1 * b + e2 * sum(contexts))
    scale = 1.0 + figures["batch_overhead"] * (b > 1)
    return linear_s(b) + float(figures["layers"] * scale * attention) / 1e3


def generated_s(prompt: int, output: int) -> float:
    """A request alone: its prompt in one iteration, then its decodes."""
    return prompts_s(prompt) + sum(decodes_s(prompt + 1 + k) for k in range(output - 1))


def llama(kv: float = 4.0, **changes: Any) -> Function:
    """Llama-3-8B as if its weights were 2 GiB, a GiB a second from the disk."""
    llm = Llm(LLAMA, kv_gib=kv, **changes)
    return Function("llm", 2.0, 2.0 + kv, llm=llm)


DISK = Link(1.0)


def test_prompts_wait_for_the_weights_and_then_go_in_order() -> None:
    """Weights until 2 s; both prompts fit the budget of 512, the third comes with the decodes.

    At 2 s a batch of prompts 100 and 300; then the third's first 510 tokens beside two decodes.
    """
    calls = [(0.0, 0, 100, 1), (0.5, 0, 300, 1), (1.0, 0, 400, 1)]
    result = run([llama()], traffic(calls), Node((Gpu(10.0),), disk=DISK))
    seen = result.outcome
    first = 2.0 + prompts_s(100, 300, 112)
    figures = calibration.profile(LLAMA).figures
    p = figures["prefill_layer_ms"]
    rest = max(p[0], p[1] + p[2] * 288 + p[3] * 288 * (112 + 144) + p[4] * 112)
    last = first + linear_s(288) + figures["layers"] * rest / 1e3
    assert seen.first_token_s == pytest.approx([first, first, last], abs=1e-12)
    assert seen.finish_s == pytest.approx([first, first, last], abs=1e-12)
    assert seen.start_s.tolist() == [2.0, 2.0, 2.0] and seen.tier.tolist() == [COLD] * 3
    assert result.bill.gpu_busy_s == pytest.approx(last - 2.0)
    assert result.bill.gpu_loading_s == pytest.approx(2.0)


def test_a_batch_function_takes_the_memory_of_an_idle_llm_and_it_comes_back() -> None:
    """6 of 10 GiB are the LLM's, key-value memory included, and 5 the other's: one at a time."""
    other = Function("dnn", 5.0, 5.0, alpha_s=0.25)
    calls = [(0.0, 0, 100, 20), (10.0, 1, 0, 0), (20.0, 0, 64, 5)]
    w = traffic(calls, 2, 40.0)
    result = run([llama(), other], w, Node((Gpu(10.0),), disk=DISK))
    seen = result.outcome
    ends = [2.0 + generated_s(100, 20), 15.25, 22.0 + generated_s(64, 5)]
    assert seen.finish_s == pytest.approx(ends, abs=1e-9)
    assert seen.first_token_s == pytest.approx(
        [2.0 + prompts_s(100), np.nan, 22.0 + prompts_s(64)], abs=1e-9, nan_ok=True
    )
    assert seen.tier.tolist() == [COLD] * 3 and result.counters["evictions"] == 2
    assert result.bill.device_gib_s == pytest.approx(10 * 6.0 + 10 * 5.0 + 20 * 6.0)
    assert result.bill.gpu_busy_s == pytest.approx(ends[0] - 2.0 + 0.25 + ends[2] - 22.0)


def test_a_busy_llm_keeps_its_memory_until_its_last_token() -> None:
    other = Function("dnn", 5.0, 5.0, alpha_s=0.25)
    calls = [(0.0, 0, 100, 200), (2.5, 1, 0, 0)]
    result = run([llama(), other], traffic(calls, 2), Node((Gpu(10.0),), disk=DISK))
    end = 2.0 + generated_s(100, 200)
    assert end > 3.0
    assert result.outcome.finish_s == pytest.approx([end, end + 5.25], abs=1e-9)


def test_replicas_are_added_and_the_one_with_least_to_do_is_next() -> None:
    """Three requests an instance: the fourth starts another. When the short ones are over, the
    first instance has two and the second none, which takes the next two."""
    node = Node((Gpu(6.0), Gpu(6.0)), disk=Link(2.0))
    calls = [
        (0.0, 0, 100, 400), (0.0, 0, 100, 400), (0.0, 0, 100, 30), (0.1, 0, 100, 2),
        (3.0, 0, 50, 100), (3.1, 0, 50, 100),
    ]  # fmt: skip
    f = replace(llama(requests=3), name="f0")
    sim = Simulation([Cluster(node, (f,))], [traffic(calls)])
    sim.run()
    seen, at = sim.result().outcome, sim.state.req[0]["inst"].tolist()
    assert seen.finish_s[2:4].max() < 3.0 and seen.finish_s[:2].min() > 3.1 + generated_s(50, 100)
    assert at[0] == at[1] == at[2] != at[3] == at[4] == at[5]
    assert seen.first_token_s is not None and seen.first_token_s[4] == 3.0 + prompts_s(50)


def test_what_can_never_be_served_is_dropped_at_once() -> None:
    """256 blocks of 16 in half a GiB of Llama-3-8B's 128 KiB a token: 4,096 tokens."""
    calls = [
        (0.0, 0, 0, 10), (0.0, 0, 10, 0), (1.0, 0, 4000, 97), (1.0, 0, 90, 10),
        (2.0, 0, 3000, 2000),
    ]  # fmt: skip
    f = llama(0.5, max_tokens=4096)
    assert kv_gib(LLAMA, 256, BLOCK) == 0.5
    result = run([f], traffic(calls), Node((Gpu(10.0),), disk=DISK))
    assert result.outcome.tier.tolist() == [DROPPED, DROPPED, DROPPED, COLD, DROPPED]
    assert result.counters["drops"] == 4
    roomy = replace(f, llm=replace(f.llm, max_tokens=8192))
    result = run([roomy], traffic(calls), Node((Gpu(10.0),), disk=DISK))
    assert result.outcome.tier.tolist() == [DROPPED, DROPPED, COLD, COLD, DROPPED]


def test_more_replicas_than_a_row_has_room_for_at_first() -> None:
    """Forty at once, one request each: every one is as quick as alone."""
    calls = [(0.0, 0, 100, 3)] * 40
    result = run([llama(requests=1)], traffic(calls), Node((Gpu(240.0),)))
    assert result.outcome.finish_s == pytest.approx([generated_s(100, 3)] * 40, abs=1e-9)
    assert result.counters["loads_disk"] == 40


def test_an_llm_over_two_gpus_holds_its_share_on_each() -> None:
    profile = "meta-llama/Llama-2-7b-hf|h100|tp2|h100_dgx"
    f = llm_function("f0", Llm(profile, kv_gib=8.0))
    figures = calibration.profile(profile).figures
    weights_gib = 2 * (figures["weight_bytes"] + figures["embedding_bytes"]) / GIB
    assert f.gpus == 2 and f.device_gib == pytest.approx(weights_gib + 8.0)
    sim = Simulation([Cluster(Node((Gpu(80.0), Gpu(80.0))), (f,))], [traffic([(0.0, 0, 100, 3)])])
    sim.run()
    assert sim.state.gpu[0]["used"].tolist() == [round(f.device_gib / 2 * GIB)] * 2
    assert sim.result().outcome.tier.tolist() == [WARM]


@pytest.mark.parametrize(
    ("llm", "changes", "named"),
    [
        (Llm("gpt-9"), {}, r"function\[x\].llm.profile = 'gpt-9' .* nearest"),
        (Llm(LLAMA, "fifo"), {}, r"function\[x\].llm.scheduler = 'fifo' .* sarathi \| vllm"),
        (Llm(LLAMA, token_budget=0), {}, r"llm.token_budget = 0 .* >= 1"),
        (Llm(LLAMA, block_size=0), {}, r"llm.block_size = 0 .* >= 1"),
        (Llm(LLAMA, requests=0), {}, r"llm.requests = 0 .* >= 1"),
        (Llm(LLAMA, kv_gib=9.0), {}, r"llm.kv_gib = 9.0 .*a block.* <= 4 \(device_gib less"),
        (Llm(LLAMA, kv_gib=0.0), {}, r"llm.kv_gib = 0.0 .*>= 0.00195312 \(a block\)"),
        (Llm(LLAMA, "orca", kv_gib=0.25), {}, r"llm.num_blocks = 128 .*>= 256.*orca reserves"),
        (Llm(LLAMA, preset="x"), {}, r"llm.preset = 'x' .*vidur \| stoker"),
        (Llm(LLAMA), {"gpus": 2}, r"function\[x\].gpus = 2 .* 1 \(degree of"),
        (Llm(LLAMA), {"max_batch": 8}, r"function\[x\].max_batch = 8 .*by iteration"),
        (Llm(LLAMA), {"concurrency": 2}, r"function\[x\].concurrency = 2 .*by iteration"),
    ],
)
def test_what_cannot_be_is_named(llm: Llm, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SpecError, match=named):
        Function("x", 2.0, 6.0, llm=llm, **changes)


def test_runs_that_cannot_be_are_named() -> None:
    f = replace(llama(), name="f0")
    cluster, w = Cluster(Node((Gpu(10.0),)), (f,)), traffic([(0.0, 0, 100, 3)])
    bare = replace(w, output_tokens=None)
    with pytest.raises(SpecError, match=r"workload.output_tokens = None .*function\[f0\] is an"):
        Simulation([cluster], [bare])
    with pytest.raises(SpecError, match=r"rules.scale_out = 'wait_vs_cold'"):
        Simulation([cluster], [w], Rules(scale_out="wait_vs_cold"))
    with pytest.raises(SpecError, match=r"gpu.sharing = 'processor' .*parallel"):
        Cluster(Node((Gpu(10.0, sharing="processor"),)), (f,))
    with pytest.raises(SpecError, match=r"function\[f0\].llm = .*real backend"):
        LiveEngine(cluster)


def test_who_waits_in_a_replica_at_the_end_of_an_episode_is_charged() -> None:
    """One request at a time: the first runs from 2 s on, the others wait for it."""
    calls = [(0.0, 0, 100, 4000), (0.5, 0, 100, 10), (3.0, 0, 100, 10)]
    w = traffic(calls, horizon_s=5.0)
    f = replace(llama(max_batch=1, max_tokens=8192), name="f0")
    sim = Simulation([Cluster(Node((Gpu(10.0),), disk=DISK), (f,))], [w])
    sim.run()
    assert np.isfinite(sim.result().outcome.start_s).tolist() == [True, False, False]
    assert sim.result().wait_s == pytest.approx(2.0 + 4.5 + 2.0)
    terms, one = np.zeros((1, 6)), np.zeros(1)
    close_episode(
        sim.state.rows, 0, terms, np.zeros(1, np.int64), np.zeros((1, EXPERTS)), one, one.copy()
    )
    assert terms[0, 0] == pytest.approx(2.0 + 4.5 + 2.0)
