"""Tuning and training on the variant `llm` of `stoker/Batching-v0`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import composed
from gymnasium import spaces

from stoker.agents import token_rows, train_tokens, tune, tune_tokens
from stoker.agents.budget_policy import BudgetPolicy
from stoker.agents.judged import read_tuned
from stoker.baselines.sarathi import Sarathi
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.observe_tokens import BUDGETS, FEATURES, SLOT, C

SMALL = ("env.problems.seconds=10",)
QUICK = (*SMALL, "agent.total_steps=256", "agent.rows=8", "agent.n_steps=16", "agent.batch_size=64")
NAMES = [name for name, _ in FEATURES]


def test_an_experiment_trains_and_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_tokens, "JUDGED_ROWS", 8)
    train_tokens.run(composed("train", "experiment=batching_llm", *QUICK), tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    fixed = {f"sarathi_{n}" for n in (256, 512, 1024, 2048)}
    assert set(scores["rows"]) == {
        "learned", "sarathi", "sarathi_slo", "vllm_order", "orca_order", *fixed,
    }  # fmt: skip
    for name, mean in scores["cost_a_request"].items():
        assert mean == pytest.approx(np.mean(scores["rows"][name]))
        assert len(scores["rows"][name]) == 8
    assert scores["rows"]["sarathi"] == scores["rows"]["sarathi_512"]  # as published
    weights = torch.load(tmp_path / "policy.pt", weights_only=True)
    assert weights["action_net.weight"].shape == (len(BUDGETS), 64)
    assert list((tmp_path / "tensorboard").rglob("events*"))


@pytest.mark.parametrize("choice", [0, 4, 8])
def test_learned_and_opponents_are_judged_alike(choice: int) -> None:
    node = composed("train", "experiment=batching_llm", *SMALL).env
    drawn = token_rows.draw(node, 7, 6)
    held = token_rows.cost(drawn, Sarathi(BUDGETS[choice]))
    env = token_rows.build_rows(node, 6)
    played = token_rows.play(env, 7, lambda seen: np.full(len(seen), choice))
    assert played == pytest.approx(held, rel=1e-9)
    assert held.max() > held.min() > 0.0


def test_the_network_begins_as_the_rule() -> None:
    box = spaces.Box(-10.0, 10.0, (SLOT + C,), np.float32)
    policy = BudgetPolicy(box, spaces.Discrete(len(BUDGETS)), lambda _: 1e-3, margin=0.9)
    seen = np.zeros((4, SLOT + C), np.float32)
    first = 1 + NAMES.index("iteration_128")
    rise = np.arange(9)
    seen[0, first : first + 9] = 0.5 + 0.1 * rise  # 128, 192, 256, 384, 512: 0.9
    seen[1, first : first + 9] = 1.1 + 0.1 * rise  # none is in time: the smallest
    seen[2, first : first + 9] = 0.1 * rise
    seen[3, first : first + 9] = 0.3 * rise
    taken, _ = policy.predict(seen, deterministic=True)
    assert [BUDGETS[j] for j in taken] == [512, 128, 2048, 384]


def test_rewards_are_costs_over_the_requests_of_a_mean_tick() -> None:
    node = composed("train", "experiment=batching_llm", *SMALL).env
    plain, even = (token_rows.build_rows(node, 3) for _ in range(2))
    rows = train_tokens.EvenRows(even, 0.5)
    rows.seed(4)
    rows.reset()
    plain.reset(seed=4)
    counts = np.array([len(load) for load in plain.core.sim.state.workloads])
    costs = np.zeros(3)
    for _ in range(6):
        rows.step_async(np.full(3, 1))
        _, rewards, _, _ = rows.step_wait()
        _, unscaled, *_ = plain.step(np.full(3, 1))
        assert rewards == pytest.approx(0.5 * unscaled / (counts / 10.0), rel=1e-6)
        costs -= unscaled
    assert (costs > 0.0).all()


def test_tuning_finds_settings_that_training_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_tokens, "ROWS", 8)
    budget = "budget_requests=1000"
    cfg = composed("tune", "env=batching_llm", "policies=[sarathi,sarathi_slo]", *SMALL, budget)
    tune_tokens.run(cfg, tmp_path)
    tuned = read_tuned(tmp_path)
    assert set(tuned) == {"sarathi", "sarathi_slo"}
    assert tuned["sarathi"]["budget"] in (128, 256, 512, 1024, 2048)
    nodes = token_rows.opponents(cfg.env, tuned)
    assert nodes["sarathi_slo"] == tuned["sarathi_slo"]
    assert nodes["sarathi_2048"]["budget"] == 2048
    for wrong in (("policies=[ttl]",), ("policies=[sarathi]", "budget_requests=1")):
        with pytest.raises(SpecError, match=wrong[-1].split("=")[0]):
            tune_tokens.run(composed("tune", "env=batching_llm", *SMALL, *wrong), tmp_path)
    assert tune.tune_tokens is tune_tokens


@pytest.mark.parametrize(
    "change",
    ["+agent.hope=1", "~agent.scale", "env.variant=dnn", "+env.hope=1", "+env.problems.hope=1",
     "+env.problems.functions=2", "env.problems.load=[0,1]"],
)  # fmt: skip
def test_a_wrong_setting_is_named(change: str, tmp_path: Path) -> None:
    field = change.lstrip("+~").split("=")[0].replace("env.problems.load", "problems.load")
    with pytest.raises(SpecError, match=field):
        train_tokens.run(composed("train", "experiment=batching_llm", *QUICK, change), tmp_path)
