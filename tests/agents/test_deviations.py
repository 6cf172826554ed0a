"""Single deviations: what is counted, and what a network makes of it."""

import numpy as np
import pytest
import torch
from commands import composed

from stoker.agents.deviations import HELD, WINDOW, Deviations, collect, fit, preference
from stoker.agents.function_rows import FunctionRows
from stoker.agents.tick_problems import build_core
from stoker.envs.levers import HostCopy, Levers, Plan

SMALL = ("env.traffic.functions=3", "env.traffic.hours=0.5", "env.traffic.requests_per_s=0.1")
LEVERS = Levers(Plan(), HostCopy(), plan="hazard")
CHOICES = (8, 3)


def rows(experiment: str, groups: int, *more: str) -> FunctionRows:
    cfg = composed("train", f"experiment={experiment}", *SMALL, *more)
    made = FunctionRows(build_core(cfg.env, 2 * groups, groups=groups))
    made.seed(4)
    return made


def test_a_deviation_that_changes_nothing_costs_nothing() -> None:
    # One class of GPU: the choices of the second lever, all but the neutral one, are masked.
    asked = rows("prewarm", 8, "env.spread.cheap=0")
    found = collect(asked, 8, 2, 0, lambda _: None)
    side = found.lever == 1
    assert 0 < side.sum() < len(side)
    assert not found.cost[side].any()
    assert found.cost[~side].any()


def test_what_one_deviation_costs_is_what_two_whole_runs_differ_by() -> None:
    found = collect(rows("swap", 8), 8, 1, 0, lambda _: None)
    asked = rows("swap", 8)
    seen, neutral = asked.reset(), asked.core.levers.neutral
    # The rows of the first window: found again by what they saw.
    first = [k for k in range(len(found.cost)) if (seen == found.seen[k]).all(axis=1).any()]
    k = first[-1]
    row = int(np.flatnonzero((seen == found.seen[k]).all(axis=1))[-1])
    heads = list(np.unravel_index(neutral, LEVERS.choices))
    heads[found.lever[k]] = found.choice[k]
    told = int(np.ravel_multi_index(tuple(heads), LEVERS.choices))
    cost = np.zeros(16)
    for tick in range(WINDOW):
        actions = np.full(asked.num_envs, neutral)
        actions[row] = told if tick < HELD else neutral
        asked.step(actions)
        cost += asked.spent[:, :, :5].sum(axis=(1, 2)) / asked.told["scale"]
    mine, other = row // 3, row // 3 // 8 * 8 + (row // 3 + 1) % 8  # any that did not deviate
    assert found.cost[k] == pytest.approx(cost[mine] - cost[other], abs=1e-5)


def known(count: int) -> Deviations:
    """Leaving costs the tanh of the first column, staying 0.3, no host copy 0.1."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(count, 5)).astype(np.float32)
    lever = rng.integers(2, size=count)
    choice = np.where(lever == 0, rng.choice([0, 1], count), 0)
    leaving = (lever == 0) & (choice == 0)
    cost = np.where(leaving, np.tanh(seen[:, 0]), np.where(lever == 1, 0.1, 0.3))
    return Deviations(seen, lever, choice, cost.astype(np.float32))


def test_the_fit_finds_the_costs_and_the_policy_deviates_where_that_pays() -> None:
    samples = known(6000)
    network = fit(samples, LEVERS, (32,), 0)
    seen = torch.tensor([[1.0, 0, 0, 0, 0], [-1.0, 0, 0, 0, 0]])
    with torch.no_grad():
        out = network(seen).numpy()
        plan, host = out[:, :8] - out[:, [3]], out[:, 8:] - out[:, [9]]
    assert plan[:, 0] == pytest.approx([np.tanh(1.0), -np.tanh(1.0)], abs=0.15)
    assert plan[:, 1] == pytest.approx([0.3, 0.3], abs=0.15)
    assert host[:, 0] == pytest.approx([0.1, 0.1], abs=0.15)
    for margin, leaves in ((0.2, True), (1.5, False)):
        chooses = preference(network, LEVERS, margin, 10.0)
        with torch.no_grad():
            joint = chooses(seen).numpy().reshape(2, *CHOICES)
        apart = joint[:, 0, 1] - joint[:, 3, 1]  # leave against plan, the copy kept
        assert apart == pytest.approx(-10.0 * (plan[:, 0] + margin), abs=1e-3)
        assert (apart > 0.0).tolist() == [False, leaves]
