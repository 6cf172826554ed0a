"""Late and lost observations, by hand and in the environments."""

import gymnasium as gym
import numpy as np
import pytest

from stoker.envs.cluster.faults import FaultRates, Faults
from stoker.envs.late import LateObservations
from stoker.envs.problems import SyntheticProblems

PROBLEMS = SyntheticProblems(functions=3, hours=0.5, requests_per_s=0.1)


def seen(faults, ticks, step_s=60.0):
    """What one row shows at each tick, where the sample of tick n is n."""
    late = LateObservations(1, 1)
    late.start(0, faults)
    return [
        int(late.see(np.full((1, 1), n, np.float32), np.array([n * step_s]))[0, 0])
        for n in range(ticks)
    ]


def test_a_sample_arrives_once_it_is_old_enough():
    assert seen(Faults(), 4) == [0, 1, 2, 3]
    assert seen(Faults(telemetry_delay_s=60.0), 5) == [0, 0, 1, 2, 3]
    assert seen(Faults(telemetry_delay_s=61.0), 5) == [0, 0, 0, 1, 2]
    assert seen(Faults(telemetry_delay_s=1e6), 5) == [0] * 5


def test_a_lost_sample_leaves_the_one_before():
    shown = seen(Faults(telemetry_loss=0.5, seed=3), 400)
    assert shown == sorted(shown)
    lost = [n for n in range(1, 400) if shown[n] == shown[n - 1]]
    assert all(shown[n] == n for n in range(1, 400) if n not in lost)
    assert len(lost) == pytest.approx(200, abs=4 * 10)  # four standard deviations


def test_another_episode_forgets_what_was_on_its_way():
    late = LateObservations(2, 1)
    for k in range(2):
        late.start(k, Faults(telemetry_delay_s=60.0))
    late.see(np.array([[1.0], [1.0]], np.float32), np.array([0.0, 0.0]))
    late.see(np.array([[2.0], [2.0]], np.float32), np.array([60.0, 60.0]))
    late.start(0, Faults(telemetry_delay_s=60.0))
    shown = late.see(np.array([[7.0], [3.0]], np.float32), np.array([0.0, 120.0]))
    assert shown[:, 0].tolist() == [7.0, 2.0]
    shown = late.see(np.array([[8.0], [4.0]], np.float32), np.array([60.0, 180.0]))
    assert shown[:, 0].tolist() == [7.0, 3.0]


@pytest.mark.parametrize("env_id", ["stoker/KeepAlive-v0", "stoker/Swap-v0"])
def test_a_delay_of_a_tick_shows_the_tick_before_and_changes_nothing_else(env_id):
    rates = FaultRates(telemetry_delay_s=(60.0, 60.0))
    options = {} if env_id != "stoker/KeepAlive-v0" else {"problems": PROBLEMS}
    late = gym.make_vec(env_id, num_envs=3, faults=rates, **options)
    prompt = gym.make_vec(env_id, num_envs=3, faults=FaultRates(repair_s=601.0), **options)
    before, _ = prompt.reset(seed=8)
    shown, _ = late.reset(seed=8)
    assert np.array_equal(shown, before)
    prompt.action_space.seed(1)
    for n in range(24):
        action = prompt.action_space.sample()
        now, rewards, _, _, info = prompt.step(action)
        shown, late_rewards, _, _, late_info = late.step(action)
        assert np.array_equal(rewards, late_rewards)
        assert np.array_equal(info["action_mask"], late_info["action_mask"])
        assert np.array_equal(shown, before), n
        before = now
