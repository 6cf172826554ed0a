"""`stoker train` of the ids with ticks: from the configs to scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import composed
from sb3_contrib import MaskablePPO

from stoker.agents import train, train_ticks
from stoker.agents.export import write_tick_bundle
from stoker.agents.function_rows import FunctionRows
from stoker.agents.tick_learners import build_learner, read_settings
from stoker.agents.tick_problems import build_core
from stoker.agents.tick_training import Setting
from stoker.baselines.tick_bundle import TickBundle
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.idle import TERMS
from stoker.envs.cluster.observe_all import SLOT, C
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.tick_observer import by_function
from stoker.envs.levers import Levers

SMALL = (
    "env.traffic.functions=4", "env.traffic.hours=0.5", "agent.total_steps=256", "agent.rows=2",
    "agent.n_steps=16", "agent.batch_size=64", "agent.groups=2", "agent.deviations=1",
    "env.opponents=[hazard,ttl]",
)  # fmt: skip


@pytest.mark.parametrize("name", ["prewarm", "swap", "cluster"])
def test_an_experiment_trains_and_judges(name: str, tmp_path: Path) -> None:
    cfg = composed("train", f"experiment={name}", *SMALL)
    train_ticks.run(cfg, tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    for part in ("total_usd", "validation_usd"):
        assert {policy: len(usd) for policy, usd in scores[part].items()} == {
            "learned": train_ticks.JUDGED_ROWS,
            "hazard": train_ticks.JUDGED_ROWS,
            "ttl": train_ticks.JUDGED_ROWS,
        }
    assert scores["total_usd"]["hazard"] != scores["validation_usd"]["hazard"]
    stages = scores["stages"]
    assert [*stages][0::5] == ["heuristic", "ppo"]
    deployed = {k: v for k, v in stages.items() if not k.startswith("deviations")}
    assert stages[scores["chosen"]] <= min(deployed.values())
    weights = torch.load(tmp_path / "policy.pt", weights_only=True)
    assert weights["action_net.weight"].shape[1] == 64
    page = (tmp_path / "scores.md").read_text()
    for who in ("learned", "hazard", "ttl", "bound"):
        assert f"| {'**learned**' if who == 'learned' else who} | " in page


def pictures(folder: Path) -> dict[str, int]:
    """Count the pictures in a TensorBoard log, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (log,) = folder.rglob("events*")
    events = EventAccumulator(str(log), size_guidance={"images": 0})
    events.Reload()
    return {tag: len(events.Images(tag)) for tag in events.Tags()["images"]}


AGENTS = {
    "maskable_ppo": (),
    "recurrent_ppo": ("agent.deviations=0", "agent.hidden=[8]"),
    "dqn": ("agent.learning_starts=64",),
}


@pytest.mark.parametrize("agent", AGENTS)
def test_every_learner_writes_policy_scores_and_pictures(agent: str, tmp_path: Path) -> None:
    small = [word for word in SMALL if agent != "dqn" or not word.startswith("agent.n_steps")]
    cfg = composed("train", "experiment=swap", f"agent={agent}", *small, *AGENTS[agent])
    train_ticks.run(cfg, tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["algorithm"] == agent
    assert agent in scores["stages"]
    assert (tmp_path / "policy.pt").is_file()
    assert (tmp_path / "bundle").is_dir()
    drawn = pictures(tmp_path / "tensorboard")
    (best,) = set(drawn) - {"timeline/learned"}
    assert best in ("timeline/hazard", "timeline/ttl")
    assert drawn["timeline/learned"] >= 2 and drawn[best] == 1


def test_masked_choices_have_no_probability(tmp_path: Path) -> None:
    # No host memory: of the three choices of the second lever the first alone is legal.
    cfg = composed("train", "experiment=swap", *SMALL, "env.spread.host_share=0")
    rows = FunctionRows(build_core(cfg.env, 2))
    rows.seed(0)
    seen = rows.reset()
    masks = np.stack(rows.env_method("action_masks"))
    assert masks.shape == (8, 24)
    assert masks.reshape(8, 8, 3).all(axis=(0, 1)).tolist() == [True, False, False]
    settings = read_settings(
        composed("train", "experiment=swap", "agent=maskable_ppo", *SMALL).agent
    )
    model = build_learner(rows, settings, 0, tmp_path)
    assert isinstance(model, MaskablePPO)
    chosen = [model.predict(seen, action_masks=masks)[0] for _ in range(20)]
    assert (np.array(chosen) % 3 == 0).all()


def test_a_team_pays_for_all_and_groups_for_what_they_do_otherwise() -> None:
    cfg = composed("train", "experiment=swap", *SMALL)
    rows = FunctionRows(build_core(cfg.env, 4, groups=2), team=0.25, groups=2)
    rows.seed(3)
    rows.reset()
    rng = np.random.default_rng(1)
    for _ in range(20):
        _, rewards, _, _ = rows.step(rng.integers(0, rows.action_space.n, 16))
        own = rows.spent[:, :, :5].sum(axis=2) / rows.told["scale"][:, None]
        pays = 0.75 * own + 0.25 * own.sum(axis=1, keepdims=True)
        apart = (pays[0::2] - pays[1::2]) / 2.0  # two clusters lie as far from their mean
        assert rewards.reshape(4, 4)[0::2] == pytest.approx(-apart, abs=1e-6)
        assert rewards.reshape(4, 4)[1::2] == pytest.approx(apart, abs=1e-6)
    same = FunctionRows(build_core(cfg.env, 4, groups=2), team=0.25, groups=2)
    same.seed(3)
    same.reset()
    for _ in range(5):
        assert not same.step(np.full(16, same.core.levers.neutral))[1].any()


def test_tuned_opponents_and_the_tuned_index_below_the_levers(tmp_path: Path) -> None:
    node = {"_target_": "stoker.baselines.hazard.HazardIndex", "slow_decay": 0.8}
    (tmp_path / "tuned.yaml").write_text(json.dumps({"policies": {"hazard": node}}))
    cfg = composed("train", "experiment=swap", *SMALL, f"tuned={tmp_path}")
    setting = Setting.of(cfg)
    assert setting.core(1).rules.params["slow_decay"] == 0.8
    assert setting.opponents["hazard"].rules.params["slow_decay"] == 0.8
    beside = {"_target_": "stoker.baselines.combined.Combined", "slow_decay": 0.7}
    known = {"policies": {"hazard": node, "combined": beside}}
    (tmp_path / "tuned.yaml").write_text(json.dumps(known))
    assert Setting.of(cfg).core(1).rules.params["slow_decay"] == 0.7


def test_training_and_judging_meet_the_faults_that_are_asked_for() -> None:
    calm, noisy = (
        Setting.of(composed("train", "experiment=swap", *SMALL, f"faults={name}"))
        for name in ("none", "noisy")
    )
    assert calm.core(2).fault_rates is None
    rates = noisy.core(2).fault_rates
    assert rates is not None and rates.load_sigma == 0.2
    cfg, hazard = noisy.cfg, noisy.opponents["hazard"]
    usual, slowed = (train_ticks.judge(s.cfg, {"hazard": hazard}, 7) for s in (calm, noisy))
    assert all(a != b for a, b in zip(usual["hazard"], slowed["hazard"], strict=True))
    assert train_ticks.judge(cfg, {"hazard": hazard}, 7) == slowed
    for experiment in ("quickstart", "batching"):
        with pytest.raises(SpecError, match="faults"):
            train.run(composed("train", f"experiment={experiment}", "faults=noisy"), Path())


def untrained(levers: Levers, seed: int) -> torch.nn.Module:
    """A network that prefers this and that, by the observation."""
    torch.manual_seed(seed)
    return torch.nn.Linear(SLOT + C, int(np.prod(levers.choices)))


@pytest.mark.parametrize("name", ["prewarm", "swap", "cluster"])
def test_a_bundle_in_simulation_pays_what_the_environment_pays(name: str, tmp_path: Path) -> None:
    cfg = composed("train", f"experiment={name}", *SMALL)
    core = build_core(cfg.env, 3)
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
    rows = FunctionRows(build_core(cfg.env, 3))
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
     "agent.groups=3", "agent.algorithm=sac", "agent.team=2.0", "agent.deviations=-1",
     "env.levers=mine", "env.opponents=[nobody]", "+env.hope=1",
     "+env.spread.hope=1", "env.spread.dear=0", "+env.traffic.hope=1"],
)  # fmt: skip
def test_a_wrong_setting_is_named(change: str, tmp_path: Path) -> None:
    field = change.lstrip("+~").split("=")[0].replace("env.spread.dear", "dear")
    with pytest.raises(SpecError, match=field):
        train_ticks.run(composed("train", "experiment=swap", *SMALL, change), tmp_path)
