"""`stoker train` of the ids with ticks: from the configs to scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import composed

from stoker.agents import train_ticks
from stoker.agents.export import write_tick_bundle
from stoker.agents.function_rows import FunctionRows
from stoker.baselines.tick_bundle import TickBundle
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.idle import TERMS
from stoker.envs.cluster.observe_all import SLOT, C
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.tick_observer import by_function
from stoker.envs.levers import Levers

SMALL = (
    "env.traffic.functions=4", "env.traffic.hours=0.5", "agent.total_steps=256", "agent.rows=2",
    "agent.n_steps=16", "agent.batch_size=64", "env.opponents=[hazard,ttl]",
)  # fmt: skip


@pytest.mark.parametrize("name", ["prewarm", "swap", "cluster"])
def test_an_experiment_trains_and_judges(name: str, tmp_path: Path) -> None:
    cfg = composed("train", f"experiment={name}", *SMALL)
    train_ticks.run(cfg, tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())["total_usd"]
    assert {policy: len(usd) for policy, usd in scores.items()} == {
        "learned": train_ticks.JUDGED_ROWS,
        "hazard": train_ticks.JUDGED_ROWS,
        "ttl": train_ticks.JUDGED_ROWS,
    }
    weights = torch.load(tmp_path / "policy.pt", weights_only=True)
    assert weights["action_net.weight"].shape[1] == 64
    assert list((tmp_path / "tensorboard").rglob("events*"))


def untrained(levers: Levers, seed: int) -> torch.nn.Module:
    """A network that prefers this and that, by the observation."""
    torch.manual_seed(seed)
    return torch.nn.Linear(SLOT + C, int(np.prod(levers.choices)))


@pytest.mark.parametrize("name", ["prewarm", "swap", "cluster"])
def test_a_bundle_in_simulation_pays_what_the_environment_pays(name: str, tmp_path: Path) -> None:
    cfg = composed("train", f"experiment={name}", *SMALL)
    core = train_ticks.build_core(cfg.env, 3)
    module = untrained(core.levers, 1)
    core.reset(seed=5)
    problems = list(zip(core.sim.clusters, core.sim.state.workloads, strict=True))
    targets = core.slo.state[:, 0].copy()
    rng = np.random.default_rng(0)
    some = rng.normal(size=(1000, SLOT + C)).astype(np.float32)
    write_tick_bundle(tmp_path, module, some, core.levers, core.rules, core.tick_s, {})
    seen, info = core.reset(seed=5)
    chosen: set[int] = set()
    while True:
        legal = core.levers.joint(core.masks.reshape(12, -1))
        with torch.no_grad():
            preference = module(torch.from_numpy(by_function(seen))).numpy()
        joint = np.where(legal, preference, -np.inf).argmax(axis=1)
        chosen |= set(joint.tolist())
        heads = np.stack(np.unravel_index(joint, core.levers.choices), axis=-1)
        seen, _, _, over, info = core.step(heads.reshape(3, -1))
        assert not info["clipped"].any()
        if over.any():
            break
    assert len(chosen) > 1  # it does prefer this and that
    for k, problem in enumerate(problems):
        (result,) = simulate(*problem, TickBundle(tmp_path, slo_target=targets[k]))
        assert result.summary() == pytest.approx(info["summary"][k], rel=1e-9)


def test_every_function_is_a_row_that_pays_its_own_costs() -> None:
    cfg = composed("train", "experiment=cluster", *SMALL)
    rows = FunctionRows(train_ticks.build_core(cfg.env, 3))
    assert rows.num_envs == 12
    rows.seed(5)
    seen = rows.reset()
    assert seen.shape == (12, SLOT + C)
    rng = np.random.default_rng(0)
    for _ in range(29):
        seen, rewards, done, infos = rows.step(rng.integers(0, rows.action_space.n, 12))
        assert not done.any()
        assert infos == [{}] * 12
        spent = rows.core.spent[:, :, : len(TERMS)].sum(axis=2)
        expected = -np.minimum(spent / rows.core.cold_s, 5.0)
        assert rewards == pytest.approx(expected.reshape(-1), rel=1e-5)
        assert np.array_equal(seen[::4, SLOT:], seen[3::4, SLOT:])  # of one cluster
    last, _, done, infos = rows.step(np.zeros(12, np.int64))  # half an hour has 30 ticks
    assert done.all()
    assert infos[0]["TimeLimit.truncated"]
    assert infos[7]["terminal_observation"].shape == (SLOT + C,)
    assert not np.array_equal(infos[7]["terminal_observation"], last[7])


@pytest.mark.parametrize(
    "change",
    ["+agent.hope=1", "agent.gamma=2.0", "agent.rows=0", "~agent.neutral", "env.id=KeepAlive",
     "+env.hope=1", "+env.spread.hope=1", "env.spread.dear=0", "+env.traffic.hope=1"],
)  # fmt: skip
def test_a_wrong_setting_is_named(change: str, tmp_path: Path) -> None:
    field = change.lstrip("+~").split("=")[0].replace("env.spread.dear", "dear")
    with pytest.raises(SpecError, match=field):
        train_ticks.run(composed("train", "experiment=swap", *SMALL, change), tmp_path)
