"""`stoker/Runtime-v0`: an agent decides for real models in real time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from small_models import CNN, GPT, MakeModel

from stoker.envs.cluster.errors import SpecError
from stoker.envs.keepalive import KeepAliveEnv
from stoker.envs.levers import Levers, Swap
from stoker.envs.problems import SyntheticProblems
from stoker.runtime.environment import RuntimeEnv
from stoker.runtime.profile import FORMAT
from stoker.runtime.real_problems import RealProblems


def problems(make_model: MakeModel, **changes: float) -> RealProblems:
    models = (make_model("gpt", GPT, 1), make_model("cnn", CNN, 2))
    entries = {
        model.name: {
            "weights_bytes": model.data_bytes,
            "device_bytes": model.data_bytes + 64,
            "load_s": {"disk": {"p50": 0.02}, "host": {"p50": 0.002}},
            "order_s": {"p50": 0.001},
            "load_order_s": {"p50": 0.001},
            "alpha_s": 0.002,
            "beta_s": 0.001,
            "max_batch": 8,
        }
        for model in models
    }
    profile = {"format": FORMAT, "name": "by hand", "copy_gib_s": 5.0, "models": entries}
    asked = {"functions": 4, "seconds": 2.0, "requests_per_s": 30.0, **changes}
    return RealProblems(models, profile, **asked)


def test_an_episode_on_real_models(make_model: MakeModel) -> None:
    env = RuntimeEnv(problems(make_model), levers=Levers(Swap()))
    seen, info = env.reset(seed=3)
    assert seen in env.observation_space and info["action_mask"].shape == (4 * 6,)
    total = ticks = requests = 0
    over = False
    while not over:
        seen, reward, terminated, over, info = env.step(np.full(4, 3))
        assert seen in env.observation_space and not terminated
        assert reward == pytest.approx(sum(info["reward_terms"].values()))
        assert reward <= 0.0 and info["clipped"] == 0
        total, ticks, requests = total + info["dt"], ticks + 1, requests + info["requests"]
    assert total == pytest.approx(2.0, abs=0.2)
    assert ticks <= 7  # of 60 s, compressed by 4 s / 21 ms: 0.315 s each
    summary = info["summary"]
    assert summary["requests"] == requests > 30  # each was counted in one tick
    assert summary["loads"] >= 1 and summary["total_usd"] > 0.0
    pids = [worker.pid for worker in env._session._controller.backend.workers]
    env.close()
    assert pids and not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_its_spaces_are_those_of_the_simulated_ids(make_model: MakeModel) -> None:
    real = RuntimeEnv(problems(make_model))
    simulated = KeepAliveEnv(problems=SyntheticProblems(functions=4))
    assert real.observation_space == simulated.observation_space
    assert real.action_space == simulated.action_space


def test_it_passes_gymnasiums_checker(make_model: MakeModel) -> None:
    env = gym.make("stoker/Runtime-v0", problems=problems(make_model, seconds=0.6))
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_a_step_before_the_reset_and_bad_settings_are_refused(make_model: MakeModel) -> None:
    real = problems(make_model)
    with pytest.raises(gym.error.ResetNeeded):
        RuntimeEnv(real).step(np.zeros(4, np.int64))
    for name in ("functions", "seconds", "ratio"):
        with pytest.raises(SpecError, match=f"problems.{name}"):
            replace(real, **{name: 0})
