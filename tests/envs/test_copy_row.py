"""A row that is put into another one's state goes on as that one does."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.levers import HostCopy, Levers, Plan, Side
from stoker.envs.problems import SyntheticProblems
from stoker.envs.spread_problems import SpreadProblems

PROBLEMS = SpreadProblems(
    inner=SyntheticProblems(functions=6, hours=1.0, requests_per_s=0.3), dear=2, cheap=1,
    host_share=0.5, max_batch=4, slo_slack_s=5.0,
)  # fmt: skip


def clusters(groups: int) -> ClusterVectorEnv:
    env = ClusterVectorEnv(
        4, PROBLEMS, levers=Levers(Plan(), HostCopy(), Side(), plan="hazard"), slo_rate=0.0,
        same_trace_groups=groups,
    )  # fmt: skip
    env.reset(seed=3)
    return env


def chosen(env: ClusterVectorEnv, rng: np.random.Generator) -> NDArray[np.int64]:
    """Any choice for each function, another in every row. Shape: (4, 18)"""
    heads = env.levers.choices
    return rng.integers(np.tile(heads, 6), size=(4, 18))


def test_a_copied_row_goes_on_as_its_source_does() -> None:
    env, rng = clusters(4), np.random.default_rng(0)
    for _ in range(20):
        seen = env.step(chosen(env, rng))[0]
    assert not np.array_equal(seen[0], seen[2])
    env.copy_row(0, 2)
    state = env.sim.state
    for name in ("fn", "gpu", "inst", "heap", "nf", "link"):
        assert np.array_equal(getattr(state, name)[0], getattr(state, name)[2]), name
    while True:
        actions = chosen(env, rng)
        actions[2] = actions[0]
        seen, _, _, over, info = env.step(actions)
        assert np.array_equal(seen[0], seen[2])
        if over.any():
            break
    summary = info["summary"]
    assert summary[0] == summary[2] != summary[1]


def test_a_copy_does_not_touch_its_source_or_any_other_row() -> None:
    env, alone, rng = clusters(4), clusters(4), np.random.default_rng(1)
    for tick in range(60):
        actions = chosen(env, rng)
        if tick == 20:
            env.copy_row(0, 2)
        ours, *_, over, told = env.step(actions)
        theirs, *_, expected = alone.step(actions)
        for k in (0, 1, 3):
            assert np.array_equal(ours[k], theirs[k])
    assert over.all()
    assert told["summary"][3] == expected["summary"][3]


def test_rows_of_other_traffic_are_refused() -> None:
    env = clusters(2)
    with pytest.raises(ValueError, match="row 2 does not serve the workload of row 1"):
        env.copy_row(1, 2)
