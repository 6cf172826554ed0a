"""Tuning and training on `stoker/Batching-v0`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import composed
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from stoker.agents import train_batching, tune_batching
from stoker.agents.masked_policy import NEVER, MaskedPolicy
from stoker.agents.smdp_buffer import SmdpBuffer
from stoker.baselines import search
from stoker.baselines.batch_registry import BATCHING, load_batch_policy
from stoker.baselines.nexus import Nexus
from stoker.envs.batch_problems import BatchProblems
from stoker.envs.batching import BatchingFunctionRows
from stoker.envs.cluster.batching import DROP
from stoker.envs.cluster.errors import SpecError

SMALL = ("env.problems.requests=30",)
SPACES = spaces.Box(-1.0, 1.0, (1,)), spaces.Discrete(2)


def filled(buffer: RolloutBuffer, env: SimpleNamespace, dt: list[float]) -> RolloutBuffer:
    """Three steps of one row: rewards 1, 2, 3; values 10, 20, 30; no episode ends."""
    for step, seconds in enumerate(dt):
        env.info = {"dt": np.array([seconds]), "scale": np.array([2.0])}
        value = torch.tensor([10.0 * (step + 1)])
        one = np.zeros((1, 1), np.float32)
        start = np.array([step == 0], np.float32)
        buffer.add(one, one, np.array([step + 1.0]), start, value, torch.zeros(1))
    buffer.compute_returns_and_advantage(torch.tensor([40.0]), np.array([False]))
    return buffer


def test_the_discount_of_a_step_follows_its_time() -> None:
    env = SimpleNamespace()
    buffer = SmdpBuffer(3, *SPACES, device="cpu", gamma=0.25, gae_lambda=0.5, env=env)
    filled(buffer, env, [1.0, 4.0, 0.0])  # discounts 1/2, 1/16, 1
    last = 3.0 + 40.0 - 30.0
    middle = 2.0 + 30.0 / 16.0 - 20.0 + 0.5 / 16.0 * last
    first = 1.0 + 20.0 / 2.0 - 10.0 + 0.5 / 2.0 * middle
    assert buffer.advantages[:, 0] == pytest.approx([first, middle, last])
    assert buffer.returns[:, 0] == pytest.approx([first + 10.0, middle + 20.0, last + 30.0])


def test_with_equal_steps_the_buffer_is_that_of_stable_baselines3() -> None:
    env = SimpleNamespace()
    ours = SmdpBuffer(3, *SPACES, device="cpu", gamma=0.9, gae_lambda=0.8, env=env)
    theirs = RolloutBuffer(3, *SPACES, device="cpu", gamma=0.9, gae_lambda=0.8)
    left, right = filled(ours, env, [2.0] * 3), filled(theirs, env, [2.0] * 3)
    assert left.advantages == pytest.approx(right.advantages, rel=1e-6)


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.1])
def test_the_network_has_the_environments_mask_and_begins_as_nexus(factor: float) -> None:
    env = BatchingFunctionRows(16, BatchProblems(requests=60))
    policy = MaskedPolicy(env.single_observation_space, env.single_action_space, lambda _: 1e-3,
                          net_arch=[8], sizes=env.sizes.tolist(), factor=factor)  # fmt: skip
    nexus, apart, refused = Nexus(factor), 0, 0
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(80):
        logits = policy.get_distribution(torch.as_tensor(observation)).distribution.logits
        legal = env.action_masks()
        assert np.array_equal(logits.detach().numpy() > NEVER / 2.0, legal)
        expected = nexus.act(env.due)
        apart += (policy._rule[:, 0].numpy() != expected).sum()
        apart += (logits.argmax(dim=1).numpy() != expected).sum()
        refused += (expected == DROP).sum()
        observation, *_ = env.step(env.action_space.sample())
    assert refused > 0
    assert apart <= 2  # of 2,560: the observation has seven digits


@pytest.mark.parametrize("name", BATCHING)
def test_every_published_setting_is_the_class_s_own_default(name: str) -> None:
    built = load_batch_policy(search.published(name))
    assert vars(built) == vars(type(built)())


def test_tuned_settings_reach_training_and_everything_is_judged(tmp_path: Path) -> None:
    cfg = composed("tune", "env=batching", *SMALL, "policies=[nexus,batch]")
    cfg.budget_requests = 2 * tune_batching.ROWS * 30
    tune_batching.run(cfg, tmp_path / "tuned")
    steps = ("agent.total_steps=128", "agent.rows=4", "agent.n_steps=16", "agent.batch_size=32")
    cfg = composed("train", "experiment=batching", *SMALL, *steps, f"tuned={tmp_path / 'tuned'}")
    (tmp_path / "run").mkdir()
    train_batching.run(cfg, tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert set(scores["cost_a_request"]) == {*BATCHING, "learned"}
    weights = torch.load(tmp_path / "run" / "policy.pt", weights_only=True)
    assert "action_net.weight" in weights


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (["policies=[ttl]"], "policies"),
        (["policies=[nexus]", "budget_requests=10"], "budget_requests"),
        (["policies=[nexus]", "+env.hope=1"], "env.hope"),
        (["policies=[nexus]", "+env.problems.hope=1"], "env.problems.hope"),
    ],
)
def test_a_wrong_setting_of_tune_is_named(changes: list[str], field: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=field):
        tune_batching.run(composed("tune", "env=batching", *changes), tmp_path)


def test_a_wrong_setting_of_the_learner_is_named() -> None:
    for change in ("+agent.hope=1", "agent.gamma=2.0", "agent.rows=0"):
        with pytest.raises(SpecError, match=change.lstrip("+").split("=")[0]):
            train_batching.Settings.of(composed("train", "experiment=batching", change).agent)


def test_a_policy_of_another_kind_is_refused() -> None:
    with pytest.raises(SpecError, match="_target_"):
        load_batch_policy({"_target_": "stoker.baselines.ttl.FixedTtl"})
