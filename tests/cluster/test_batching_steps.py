"""Random decisions on batches: the engine's tables stay in order."""

import gymnasium as gym
import numpy as np
import pytest
from table_checks import check_row

import stoker  # noqa: F401 - registers the ids
from stoker.envs.batch_problems import BatchProblems


@pytest.mark.parametrize("view", ["cluster", "function"])
def test_random_decisions_break_nothing(view: str) -> None:
    problems = BatchProblems(functions=4, requests=120)
    env = gym.make_vec("stoker/Batching-v0", num_envs=32, view=view, problems=problems).unwrapped
    env.reset(seed=11)
    env.action_space.seed(11)
    ended = 0
    for n in range(600):
        _, rewards, _, over, _ = env.step(env.action_space.sample())
        assert np.isfinite(rewards).all()
        ended += int(over.sum())
        if n % 10 == 0:
            for k in range(n // 10 % 8, 32, 8):
                check_row(env.sim, k)
    assert ended > 32
