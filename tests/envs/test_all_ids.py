"""What every environment id keeps, in every view."""

import hashlib
import pickle
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import stoker.envs
from stoker.envs.batch_problems import BatchProblems
from stoker.envs.check import check_vector_env
from stoker.envs.cluster.errors import SpecError
from stoker.envs.problems import SyntheticProblems
from stoker.envs.token_problems import TokenProblems

BATCHING = "stoker/Batching-v0"
TOKENS = "stoker/Batching-v0 llm"
"""Its variant."""
IDS = [f"stoker/{name}-v0" for name in ("KeepAlive", "Prewarm", "Batching", "Swap", "Cluster")]
CASES = [(env_id, view) for env_id in (*IDS, TOKENS) for view in ("cluster", "function")]
TINY = SyntheticProblems(functions=3, hours=0.5, requests_per_s=0.05)
PROBLEMS = {
    **dict.fromkeys(IDS, TINY),
    BATCHING: BatchProblems(functions=3, requests=20),
    TOKENS: TokenProblems(functions=3, seconds=20.0),
}
NAMED = {env_id: {"id": env_id} for env_id in IDS} | {TOKENS: {"id": BATCHING, "variant": "llm"}}
every_case = pytest.mark.parametrize(("env_id", "view"), CASES)


@every_case
def test_gymnasiums_checker_finds_nothing(env_id, view):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(**NAMED[env_id], view=view).unwrapped)


@every_case
def test_stable_baselines3s_checker_finds_nothing(env_id, view):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env_sb3(gym.make(**NAMED[env_id], view=view).unwrapped)


@every_case
def test_the_vector_checker_finds_nothing(env_id, view):
    check_vector_env(lambda rows: gym.make_vec(**NAMED[env_id], num_envs=rows, view=view), steps=12)


@every_case
def test_the_spec_survives_pickling(env_id, view):
    spec = gym.make(**NAMED[env_id], view=view, problems=PROBLEMS[env_id]).unwrapped.spec
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    assert gym.make(again).observation_space == gym.make(spec).observation_space


@every_case
def test_a_single_environment_is_row_zero_of_a_vector(env_id, view):
    single = gym.make(**NAMED[env_id], view=view, problems=PROBLEMS[env_id]).unwrapped
    several = gym.make_vec(**NAMED[env_id], num_envs=2, view=view, problems=PROBLEMS[env_id])
    seen, _ = single.reset(seed=3)
    rows, _ = several.reset(seed=3)
    assert np.array_equal(seen, rows[0])
    several.action_space.seed(0)
    ended = 0
    for _ in range(150 if env_id == BATCHING else 70):
        action = several.action_space.sample()
        seen, reward, _, over, info = single.step(action[0])
        rows, rewards, _, truncated, infos = several.step(action)
        assert (reward, over) == (rewards[0], truncated[0])
        if over:
            ended += 1
            assert np.array_equal(seen, infos["final_obs"][0])
            assert info["summary"] == infos["summary"][0]
            seen, _ = single.reset()
        assert np.array_equal(seen, rows[0])
    assert ended >= 2 or (env_id != BATCHING and view == "function")


@every_case
def test_stable_baselines3_learns(env_id, view):
    env = stoker.envs.make_sb3(**NAMED[env_id], num_envs=4, view=view, problems=PROBLEMS[env_id])
    PPO("MlpPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=0, device="cpu").learn(256)
    if view == "function":
        DQN("MlpPolicy", env, learning_starts=32, batch_size=32, seed=0, device="cpu").learn(200)


@every_case
def test_both_sb3_buffers_and_copies_give_the_same_learner(env_id, view):
    def train(**options):
        arguments = {"view": view, "problems": PROBLEMS[env_id], **options}
        env = stoker.envs.make_sb3(**NAMED[env_id], num_envs=2, **arguments)
        agent = PPO("MlpPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=0, device="cpu")
        return agent.learn(128).policy.state_dict()

    plain = train()
    other = train(copy=True) if view == "cluster" else train()
    assert all(bool((plain[name] == other[name]).all()) for name in plain)


@every_case
def test_ended_rows_alone_have_an_info_in_sb3(env_id, view):
    env = stoker.envs.make_sb3(**NAMED[env_id], num_envs=2, view=view, problems=PROBLEMS[env_id])
    env.seed(0)
    env.reset()
    for _ in range(400):
        actions = np.stack([env.action_space.sample() for _ in range(2)])
        _, _, dones, infos = env.step(actions)
        assert [bool(info) for info in infos] == dones.tolist()
        if dones.any():
            ended = infos[int(np.argmax(dones))]
            assert ended["TimeLimit.truncated"]
            assert ended["terminal_observation"].shape == env.observation_space.shape
            assert set(ended["episode"]) == {"r", "l", "t"}
            return
    pytest.fail("no episode ended")


@every_case
def test_wrong_actions_are_named(env_id, view):
    env = gym.make_vec(**NAMED[env_id], num_envs=2, view=view, problems=PROBLEMS[env_id])
    env.reset(seed=0)
    good = np.zeros(env.action_space.shape, np.int64)
    for bad in (good[:1], good + 999, good - 1, np.full(good.shape, np.nan), good + 0.5):
        with pytest.raises(SpecError, match="action"):
            env.step(bad)
    env.step(good)


@every_case
def test_wrong_arguments_are_named(env_id, view):
    for name, value in (("problem", None), ("weights", {"hope": 1.0}), ("num_envs", 0)):
        with pytest.raises(SpecError, match=name):
            gym.make_vec(**NAMED[env_id], **{"num_envs": 1, "view": view, name: value})
    with pytest.raises(SpecError, match="view"):
        gym.make(**NAMED[env_id], view="bird")


GOLDEN = {
    ("stoker/KeepAlive-v0", "cluster"): "fc2dcc535b2beb0c",
    ("stoker/KeepAlive-v0", "function"): "4ed7d409534371ce",
    (BATCHING, "cluster"): "5a122dcd7495fc00",
    (BATCHING, "function"): "7c67e9e48630f1cc",
    (TOKENS, "cluster"): "98303963b3d7ff2f",
    (TOKENS, "function"): "94f38f452740f577",
    ("stoker/Prewarm-v0", "cluster"): "6b02d402184520d9",
    ("stoker/Prewarm-v0", "function"): "b11c734d50e33de9",
    ("stoker/Swap-v0", "cluster"): "256970f81a246897",
    ("stoker/Swap-v0", "function"): "58e4b3b78f4aaede",
    ("stoker/Cluster-v0", "cluster"): "3b48843916b6f744",
    ("stoker/Cluster-v0", "function"): "6ea2a61da1a53625",
}


def decisions_and_counts(env_id, view):
    """Digest of 200 steps: integers only, since logarithms differ between processors."""
    env = gym.make_vec(**NAMED[env_id], num_envs=2, view=view, problems=PROBLEMS[env_id])
    env.reset(seed=5)
    env.action_space.seed(5)
    digest = hashlib.sha256()
    keys = ("clipped", "late", "requests", "action_mask", "function", "closes", "served", "void",
            "tokens", "late_tokens")  # fmt: skip
    for _ in range(200):
        *_, over, info = env.step(env.action_space.sample())
        digest.update(over.tobytes())
        for key in keys:
            if key in info:
                digest.update(np.asarray(info[key]).astype(np.int64).tobytes())
    return digest.hexdigest()[:16]


@every_case
def test_the_dynamics_of_this_version_are_frozen(env_id, view):
    assert decisions_and_counts(env_id, view) == GOLDEN[env_id, view], (
        "the dynamics have changed: a new version and an entry in CHANGELOG.md"
    )


def test_masks_reach_stable_baselines3_as_one_array():
    env = stoker.envs.make_sb3("stoker/KeepAlive-v0", num_envs=3, problems=TINY)
    env.reset()
    assert env.has_attr("action_masks")
    (masks,) = env.env_method("action_masks")
    assert masks.shape == (3, 3 * 6)
    assert not stoker.envs.make_sb3("stoker/KeepAlive-v0", view="function").has_attr("action_masks")


def test_gymnasiums_vector_statistics_fit():
    env = gym.make_vec("stoker/KeepAlive-v0", num_envs=2, problems=TINY)
    env = gym.wrappers.vector.RecordEpisodeStatistics(env)
    env.reset(seed=0)
    for _ in range(30):
        *_, over, info = env.step(env.action_space.sample())
    assert over.all()
    assert info["episode"]["l"].tolist() == [30, 30]
    assert info["episode"]["r"] == pytest.approx(info["final_info"]["episode"]["r"], rel=1e-5)


def test_importing_the_environments_loads_no_learner():
    code = "import sys, stoker, stoker.envs; print(sorted({'torch', 'numba'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    code = "import sys, stoker.envs.keepalive; print('stable_baselines3' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
