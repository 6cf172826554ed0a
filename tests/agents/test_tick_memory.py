"""Recurrent policies of the ids with ticks: one step, a bundle that remembers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import composed
from sb3_contrib import RecurrentPPO

from stoker.agents.export import write_tick_bundle
from stoker.agents.function_rows import FunctionRows
from stoker.agents.tick_learners import build_learner, read_settings
from stoker.agents.tick_memory import STEPS, RecurrentPreference
from stoker.agents.tick_problems import build_core
from stoker.agents.tick_training import acting
from stoker.baselines.bundles import load_bundle
from stoker.baselines.tick_bundle import TickBundle
from stoker.envs.cluster.observe_all import SLOT, C
from stoker.envs.cluster.simulation import simulate

SMALL = (
    "experiment=swap", "agent=recurrent_ppo", "env.traffic.functions=4", "env.traffic.hours=0.5",
    "agent.rows=2", "agent.groups=2", "agent.n_steps=16", "agent.batch_size=64", "agent.hidden=[8]",
)  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> RecurrentPPO:
    """A learner whose choices depend on what it sees and remembers."""
    cfg = composed("train", *SMALL)
    built = build_learner(
        FunctionRows(build_core(cfg.env, 2)), read_settings(cfg.agent), 0, tmp_path
    )
    assert isinstance(built, RecurrentPPO)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in built.policy.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return built


def seen(n: int) -> np.ndarray:
    """Observations by chance. Shape: (n, SLOT + C)"""
    return np.random.default_rng(n).normal(size=(n, SLOT + C)).astype(np.float32)


def test_it_prefers_what_the_learner_finds_most_likely_step_by_step(model: RecurrentPPO) -> None:
    network = RecurrentPreference(model)
    memory, theirs = torch.zeros(5, network.memory), None
    chosen = set()
    for step in range(12):
        observation = seen(5 + step)[:5]
        liked, memory = network(torch.from_numpy(observation), memory)
        first = np.full(5, step == 0)
        expected, theirs = model.predict(observation, theirs, first, deterministic=True)
        assert liked.argmax(dim=1).tolist() == expected.tolist()
        hidden, cell = theirs
        assert memory.detach().numpy() == pytest.approx(
            np.concatenate([hidden[0], cell[0]], axis=1), abs=1e-5
        )
        chosen |= set(expected.tolist())
    assert len(chosen) > 3


def test_memory_is_gained_along_observations_that_stand_in_a_row(model: RecurrentPPO) -> None:
    network, observation = RecurrentPreference(model), torch.from_numpy(seen(2 * STEPS + 3))
    gained = network.gained(observation)
    for first in (0, STEPS, 2 * STEPS):
        memory = torch.zeros(1, network.memory)
        for k in range(first, min(first + STEPS, len(observation))):
            assert torch.allclose(gained[k], memory[0], atol=1e-6)
            memory = network(observation[k : k + 1], memory)[1]


def test_a_bundle_remembers_in_simulation_as_the_network_does_in_the_environment(
    model: RecurrentPPO, tmp_path: Path
) -> None:
    cfg = composed("train", *SMALL)
    core, network = build_core(cfg.env, 2), RecurrentPreference(model)
    core.reset(seed=5)
    problems = list(zip(core.sim.clusters, core.sim.state.workloads, strict=True))
    targets = core.slo.state[:, 0].copy()
    rows = FunctionRows(core)
    rows.seed(5)
    observation, done, act = rows.reset(), np.zeros(1, np.bool_), acting(network, core)
    while not done.any():
        observation, _, done, _ = rows.step(act(observation))
    write_tick_bundle(tmp_path, network, seen(1000), core.levers, core.rules, core.tick_s, {})
    assert isinstance(load_bundle(tmp_path), TickBundle)
    for k, problem in enumerate(problems):
        bundle = TickBundle(tmp_path, slo_target=targets[k])
        expected = pytest.approx(rows.told["summary"][k], rel=1e-9)
        (result,) = simulate(*problem, bundle)
        assert result.summary() == expected
        (again,) = simulate(*problem, bundle)  # a reset forgets
        assert again.summary() == expected


def test_what_it_remembers_counts(model: RecurrentPPO, tmp_path: Path) -> None:
    cfg = composed("train", *SMALL)
    core, network = build_core(cfg.env, 1), RecurrentPreference(model)
    write_tick_bundle(tmp_path, network, seen(1000), core.levers, core.rules, core.tick_s, {})
    core.reset(seed=5)
    usual = TickBundle(tmp_path)
    forgetful = TickBundle(tmp_path)
    forgetful._run = lambda now, before: (usual.prefer(now), before)  # type: ignore[method-assign]
    problem = core.sim.clusters[0], core.sim.state.workloads[0]
    ours, theirs = (simulate(*problem, policy)[0].summary() for policy in (usual, forgetful))
    assert ours != theirs
