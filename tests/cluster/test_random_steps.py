"""Random actions in every environment, with faults: the engine's tables stay in order."""

import gymnasium as gym
import numpy as np
import pytest
from table_checks import check_row

import stoker  # noqa: F401 - registers the ids
from stoker.envs.cluster.faults import FaultRates
from stoker.envs.cluster.spec import Link
from stoker.envs.problems import SyntheticProblems
from stoker.envs.randomised import RandomisedProblems
from stoker.envs.spread_problems import SpreadProblems

ROWS = 64
STEPS = 1_000_000
RATES = FaultRates(
    failure_every_s=3000.0, repair_s=200.0, preemption_every_s=4000.0, preempted_s=300.0,
    slow_every_s=1500.0, load_sigma=0.3, service_sigma=0.2,
)  # fmt: skip
BURSTY = SyntheticProblems(
    functions=7, hours=1.0, requests_per_s=0.3, ratios=(0.3, 0.6, 1.0),
    disk=(Link(), Link(2.0, "fifo", 2), Link(2.0)),
)  # fmt: skip
SOURCES = {
    "stoker/KeepAlive-v0": RandomisedProblems(functions=7, hours=1.0, requests_per_s=0.3),
    "stoker/Prewarm-v0": SpreadProblems(BURSTY, dear=2, cheap=2),
    "stoker/Swap-v0": SpreadProblems(BURSTY, dear=3, host_share=0.5),
    "stoker/Cluster-v0": SpreadProblems(
        BURSTY, dear=2, cheap=2, host_share=0.5, max_batch=6, slo_slack_s=5.0
    ),
}
CASES = [(env_id, view) for env_id in SOURCES for view in ("cluster", "function")]


def walk(env_id: str, view: str, steps: int) -> None:
    """Take so many random steps, all rows counted; look at one row of 16 at every twentieth."""
    env = gym.make_vec(
        env_id, num_envs=ROWS, view=view, problems=SOURCES[env_id], faults=RATES
    ).unwrapped
    core = getattr(env, "core", env)
    env.reset(seed=11)
    env.action_space.seed(11)
    ended = 0
    for n in range(steps // ROWS):
        _, rewards, _, over, _ = env.step(env.action_space.sample())
        assert np.isfinite(rewards).all()
        ended += int(over.sum())
        if n % 20 == 0:
            for k in range(n // 20 % 16, ROWS, 16):
                check_row(core.sim, k)
    assert ended > 0 or steps < 20_000


@pytest.mark.parametrize(("env_id", "view"), CASES)
def test_random_steps_break_nothing(env_id: str, view: str) -> None:
    walk(env_id, view, 4_000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_random_steps_break_nothing() -> None:
    for env_id, view in CASES:
        walk(env_id, view, STEPS // len(CASES))
