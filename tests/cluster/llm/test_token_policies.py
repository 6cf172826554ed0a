"""Opponents that set the token budget: known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_token_budget import FIELDS, LLAMA, bursts, iteration_s, trace

from stoker.baselines import search
from stoker.baselines.base import Policy
from stoker.baselines.orca_order import OrcaOrder
from stoker.baselines.registry import load_policy
from stoker.baselines.sarathi import Sarathi
from stoker.baselines.sarathi_slo import SarathiSlo
from stoker.baselines.vllm_order import VllmOrder
from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.llm_spec import llm_function
from stoker.envs.cluster.outcome import Outcome
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Llm, Node
from stoker.envs.workload.workload import Workload


def outcome(policy: Policy, llm: Llm, work: Workload) -> Outcome:
    cluster = Cluster(Node((Gpu(80.0),)), (llm_function("f", llm),))
    return simulate(cluster, work, policy)[0].outcome


class Nothing(Policy):
    """Leaves every function its own schedule."""

    def decide(self, snapshot: Any) -> Decision:
        return Decision()


def same(ours: Outcome, theirs: Outcome) -> bool:
    return all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in FIELDS)


@pytest.mark.parametrize(
    ("policy", "scheduler", "budget"),
    [
        (Sarathi(256), "sarathi", 256),
        (Sarathi(2048), "sarathi", 2048),
        (VllmOrder(), "vllm", 4096),
        (OrcaOrder(), "orca", 512),
    ],
)
def test_an_order_is_that_systems_scheduler(policy: Policy, scheduler: str, budget: int) -> None:
    # Memory is plenty: Orca's reservation never keeps anybody waiting.
    work = bursts(11)
    known = outcome(Nothing(), Llm(LLAMA, scheduler, budget), work)
    assert same(outcome(policy, Llm(LLAMA, token_budget=700), work), known)
    assert not same(outcome(Nothing(), Llm(LLAMA, token_budget=700), work), known)


def test_one_prompt_beside_one_decode_by_hand() -> None:
    # A has decoded from the end of its prompt (100) on when B (1,000) comes at 0.05 s.
    work = trace([0.0, 0.05], [100, 1000], [60, 3])
    t, context = iteration_s(100, 0, []), 101
    while t < 0.05:
        t += iteration_s(0, 0, [context])
        context += 1
    chunks = iteration_s(511, 0, [context]) + iteration_s(489, 511, [context + 1])
    expected = {
        Sarathi(512): t + chunks,
        VllmOrder(): t + iteration_s(1000, 0, []),
        OrcaOrder(): t + iteration_s(1000, 0, [context]),
    }
    for policy, at in expected.items():
        seen = outcome(policy, Llm(LLAMA), work)
        assert seen.first_token_s is not None
        assert seen.first_token_s[1] == pytest.approx(at, rel=1e-9)


@pytest.mark.parametrize("tbt_s", [0.02, 0.05, 0.1])
def test_the_budget_is_the_largest_that_is_in_time(tbt_s: float) -> None:
    llm = Llm(LLAMA, tbt_s=tbt_s)
    cluster = Cluster(Node((Gpu(80.0),)), (llm_function("f", llm), Function("dnn", 1.0, 1.0)))
    policy = SarathiSlo(decodes=10, context=500)
    policy.reset(cluster, 1)
    (budget, other) = policy._budgets.tolist()
    assert (budget % 128, other) == (0, 8192)

    def takes_s(tokens: int) -> float:
        return iteration_s(tokens - 10, 0, [500] * 10)

    assert takes_s(budget) <= tbt_s < takes_s(budget + 128)


def test_budgets_end_at_one_tile_and_at_the_most() -> None:
    for tbt_s, budget in ((1e-6, 128), (np.inf, 8192)):
        cluster = Cluster(Node((Gpu(80.0),)), (llm_function("f", Llm(LLAMA, tbt_s=tbt_s)),))
        policy = SarathiSlo()
        policy.reset(cluster, 1)
        assert policy._budgets.tolist() == [budget]


@pytest.mark.parametrize("name", ["sarathi", "sarathi_slo", "vllm_order", "orca_order"])
def test_published_settings_can_be_built_and_searched(name: str) -> None:
    work = bursts(3, 30)
    cluster = Cluster(Node((Gpu(80.0),)), (llm_function("f", Llm(LLAMA, tbt_s=0.03)),))

    def score(node: search.Node) -> float:
        (result,) = simulate(cluster, work, load_policy(node))
        assert result.outcome.late_tokens is not None
        return float(result.outcome.late_tokens.sum())

    found = search.search(name, score, 6, seed=1)
    assert found.score <= found.published_score
    assert len(found.trials) == (6 if search.SPACES[name] else 1)


@pytest.mark.parametrize(
    ("policy", "options", "field"),
    [(Sarathi, {"budget": 5}, "budget"), (SarathiSlo, {"margin": 0.0}, "margin"),
     (SarathiSlo, {"decodes": -1}, "decodes"), (SarathiSlo, {"tile": 1}, "tile"),
     (SarathiSlo, {"most": 64}, "most")],
)  # fmt: skip
def test_a_wrong_setting_is_named(policy: Any, options: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError, match=f"policy.{field}"):
        policy(**options)
