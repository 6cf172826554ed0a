"""Pictures of an environment show what its tables hold."""

import gymnasium as gym
import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.problems import SyntheticProblems
from stoker.envs.render import COLOURS, MARKS, states_of
from stoker.envs.spread_problems import SpreadProblems

PROBLEMS = SpreadProblems(
    SyntheticProblems(functions=5, hours=0.5, requests_per_s=0.1), dear=2, host_share=0.5
)
EVERY = [
    (f"stoker/{name}-v0", view)
    for name in ("KeepAlive", "Prewarm", "Swap", "Cluster")
    for view in ("cluster", "function")
]


def sim_of(env):
    core = env.unwrapped.core
    return getattr(core, "core", core).sim


def test_the_board_tells_of_every_function_and_gpu():
    env = gym.make("stoker/Swap-v0", render_mode="ansi", problems=PROBLEMS)
    env.reset(seed=3)
    for _ in range(9):
        env.step(np.full(5, 3))
        sim = sim_of(env)
        lines = env.render().splitlines()
        fn = sim.state.fn[0]
        assert lines[0] == f"t = {float(sim.state.rows[0]['now']):,.0f} s of 1,800"
        assert [line.split()[1] for line in lines[1:3]] == ["0", "1"]
        marks = [MARKS[state] for state in states_of(sim, 0)]
        assert [line[0] for line in lines[4:9]] == marks
        for k, line in enumerate(lines[4:9]):
            counts = [int(word) for word in line.split()[3::2]]
            assert counts == [fn[k][n] for n in ("busy", "idle", "loading", "queued")]


def test_the_timeline_is_in_the_colours_of_the_states():
    env = gym.make("stoker/Swap-v0", render_mode="rgb_array", problems=PROBLEMS)
    env.reset(seed=3)
    seen = set(states_of(sim_of(env), 0).tolist())
    for _ in range(20):
        env.step(np.full(5, 3))
        seen |= set(states_of(sim_of(env), 0).tolist())
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    pixels = picture.reshape(-1, 3).tolist()
    for state in seen:
        colour = [int(COLOURS[state][k : k + 2], 16) for k in (1, 3, 5)]
        assert pixels.count(colour) > 500, state


@pytest.mark.parametrize(("env_id", "view"), EVERY)
def test_every_id_and_view_can_be_drawn(env_id, view):
    with pytest.raises(SpecError, match="render_mode"):
        gym.make(env_id, view=view, render_mode="svg", problems=PROBLEMS)
    for mode in ("ansi", "rgb_array"):
        env = gym.make(env_id, view=view, render_mode=mode, problems=PROBLEMS)
        with pytest.raises(SpecError, match="reset"):
            env.unwrapped.render()
        env.reset(seed=1)
        for _ in range(40):  # through the end of an episode
            *_, over, _ = env.step(env.action_space.sample())
            if over:
                env.reset()
        assert len(env.render()) > 100
