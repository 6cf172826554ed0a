"""The learner: starts at the heuristic, learns from closed decisions, ships only what helps."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stoker.agents import cem, forecast
from stoker.agents.decisions import OpenDecisions
from stoker.agents.event_ppo import EPISODE, EventPPO, Shell
from stoker.agents.export import check_parity, write_bundle
from stoker.agents.learner import Logits, ModulePolicy, train
from stoker.agents.networks import Forecast, Greedy
from stoker.agents.settings import Settings
from stoker.baselines.bundle import GRAPH, MANIFEST, BundlePolicy
from stoker.baselines.hazard import HazardIndex
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.idle import TERMS
from stoker.envs.cluster.observe import K
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Link, Rules
from stoker.envs.function_view import NEUTRAL, FunctionVectorEnv
from stoker.envs.problems import SyntheticProblems

HAZARD = Rules(eviction="hazard", plan="hazard")
LINKS = (Link(discipline="fifo", slots=1),)
PROBLEMS = SyntheticProblems(functions=12, hours=1.0, requests_per_s=0.2, disk=LINKS)


def problem(seed: int):
    return PROBLEMS.sample(np.random.default_rng(seed))


def outcome_bytes(policy, cluster, workload) -> bytes:
    outcome = simulate(cluster, workload, policy)[0].outcome
    return outcome.tier.tobytes() + outcome.start_s.tobytes()


def fresh_ppo(rows: int = 4) -> EventPPO:
    env = FunctionVectorEnv(rows, PROBLEMS, rules=HAZARD)
    return EventPPO(Shell(env), seed=1, n_steps=64, batch_size=128, n_epochs=2)


def test_an_untrained_residual_is_the_hazard_index_to_the_byte():
    cluster, workload = problem(3)
    untrained = ModulePolicy(Greedy(None, Logits(fresh_ppo().policy), 1.0), HAZARD)
    assert outcome_bytes(untrained, cluster, workload) == outcome_bytes(
        HazardIndex(), cluster, workload
    )


def test_a_linear_residual_of_zeros_costs_what_the_heuristic_costs():
    cluster, workload = problem(4)
    dollars = cem.costs(np.zeros((1, cem.SCALES + 1)), [(cluster, workload)], HAZARD, threads=1)
    expected = simulate(cluster, workload, HazardIndex())[0].bill.total_usd
    assert dollars[0, 0] == pytest.approx(expected, rel=1e-12)


def test_the_compiled_linear_residual_and_its_module_decide_alike():
    cluster, workload = problem(5)
    theta = np.random.default_rng(0).normal(0.0, 0.3, cem.SCALES + 1)
    compiled = cem.costs(theta[None], [(cluster, workload)], HAZARD, threads=1)[0, 0]
    module = ModulePolicy(cem.LinearResidual(theta), HAZARD)
    by_module = simulate(cluster, workload, module)[0].bill.total_usd
    # float32 in the module: an eviction may fall the other way in a tie, no more than that
    assert compiled == pytest.approx(by_module, rel=0.02)


def test_a_reward_goes_to_the_same_functions_last_decision():
    env = FunctionVectorEnv(2, PROBLEMS, rules=HAZARD)
    observation, info = env.reset(seed=0)
    waiting = OpenDecisions(env)
    taken: dict[tuple[int, int], int] = {}
    for step in range(300):
        action = np.array([step % 15, (step * 7) % 15])
        waiting.open(info["function"], observation, action, np.zeros(2, np.float32))
        for row in range(2):
            taken[row, int(info["function"][row])] = int(action[row])
        observation, reward, _, over, info = env.step(action)
        if over.any():
            break
        closed = waiting.close(info, reward)
        rows = [k for k in range(2) if info["closes"][k] >= 0]
        assert closed.action.tolist() == [taken[k, int(info["function"][k])] for k in rows]
    assert step > 50


def test_the_forecast_head_beats_the_expert_it_starts_from():
    env = FunctionVectorEnv(8, PROBLEMS, rules=HAZARD)
    data = forecast.collect(env, 4000, seed=2)
    losses: list[float] = []
    head = forecast.fit(
        data, np.random.default_rng(0), epochs=5, log=lambda epoch, loss: losses.append(loss)
    )
    assert losses[-1] < losses[0]
    own = np.log(data.likelihood[:, 0] + forecast.FLOOR)
    with torch.no_grad():
        mixed = (head(torch.from_numpy(data.observation)).numpy() * data.likelihood).sum(axis=1)
    weight = data.weight / data.weight.sum()
    assert weight @ np.log(mixed + forecast.FLOOR) > weight @ own


def test_ppo_changes_the_policy():
    model = fresh_ppo()
    before = model.policy.action_net.weight.detach().clone()
    model.learn(2 * 64 * 4)
    assert not torch.equal(before, model.policy.action_net.weight)


def test_the_same_seed_trains_the_same_policy():
    weights = []
    for _ in range(2):
        model = fresh_ppo()
        model.learn(64 * 4)
        weights.append(model.policy.action_net.weight.detach().numpy().tobytes())
    assert weights[0] == weights[1]


def scalars(folder) -> set[str]:
    """Tags that a TensorBoard run holds."""
    tags: set[str] = set()
    for file in folder.iterdir():
        events = EventAccumulator(str(file))
        events.Reload()
        tags |= set(events.Tags()["scalars"])
    return tags


@pytest.mark.parametrize("algorithm", ["ppo", "cem"])
def test_train_exports_the_candidate_that_validation_prefers(tmp_path, algorithm):
    settings = Settings(
        algorithm=algorithm, collect=2000, total_steps=4096, rows=4, n_steps=512, batch_size=512,
        generations=2, population=4, elites=2,
    )  # fmt: skip
    trained = train(
        PROBLEMS, [problem(9), problem(10)], HAZARD, tmp_path, settings, opponents={"lru": 0.4}
    )
    assert trained.scores["heuristic"] == 1.0
    assert trained.scores[trained.chosen] == min(trained.scores.values())
    manifest = json.loads((trained.bundle / MANIFEST).read_text())
    assert manifest["card"]["chosen"] == trained.chosen
    logged = scalars(tmp_path / "tensorboard")
    assert "forecast/nll" in logged and "validation/cost_over_heuristic" in logged
    if algorithm == "ppo":
        assert {f"reward/{term}" for term in TERMS} <= logged
        assert {f"episode/{name}" for name in EPISODE} <= logged
        assert "opponents/lru" in logged
    cluster, workload = problem(11)
    assert len(simulate(cluster, workload, BundlePolicy(trained.bundle))[0].outcome.tier)


def test_training_goes_on_from_a_checkpoint(tmp_path):
    settings = Settings(
        collect=2001, total_steps=256, rows=4, n_steps=64, batch_size=64, forecast=False
    )
    told = {}

    def progress(stage, done, total):
        told[stage] = (done, total)

    train(PROBLEMS, [problem(9)], HAZARD, tmp_path / "a", settings, progress=progress)
    assert len(told) > 1 and all(done == total for done, total in told.values())
    further = tmp_path / "a" / "checkpoint.pt"
    train(PROBLEMS, [problem(9)], HAZARD, tmp_path / "b", settings, resume=further)
    steps = torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)["steps"]
    assert steps == 512


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(1000, K)).astype(np.float32)
    module = Greedy(Forecast(), torch.nn.Linear(K, 15), 1.0)
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(folder, module, observations, HAZARD, 3.0, {"note": "random"})
    return folder, module, observations


def test_a_bundle_agrees_with_torch_on_a_thousand_observations(bundle):
    folder, module, observations = bundle
    assert check_parity(folder, module, observations) < 1e-5


def test_a_bundle_is_a_graph_and_json_and_nothing_that_runs(bundle):
    folder, _, _ = bundle
    assert sorted(p.name for p in folder.iterdir()) == [MANIFEST, GRAPH]
    onnx.checker.check_model(onnx.load(folder / GRAPH))
    assert b".py" not in (folder / GRAPH).read_bytes()  # no path of the machine that exported it


def copy_of(folder, target):
    target.mkdir()
    for name in (MANIFEST, GRAPH):
        (target / name).write_bytes((folder / name).read_bytes())
    return target


def test_a_truncated_bundle_is_refused(bundle, tmp_path):
    folder = copy_of(bundle[0], tmp_path / "cut")
    raw = (folder / GRAPH).read_bytes()
    (folder / GRAPH).write_bytes(raw[: len(raw) // 2])
    with pytest.raises(SpecError, match=r"bundle\.sha256"):
        BundlePolicy(folder)


def test_a_bundle_of_another_schema_is_refused(bundle, tmp_path):
    folder = copy_of(bundle[0], tmp_path / "other")
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "schema": "0" * 16}))
    with pytest.raises(SpecError, match=r"bundle\.schema"):
        BundlePolicy(folder)


def test_a_bundle_refuses_a_cluster_on_another_time_scale(bundle):
    cluster, workload = problem(1)
    from dataclasses import replace

    with pytest.raises(SpecError, match="first_bin_s"):
        simulate(replace(cluster, first_bin_s=0.03), workload, BundlePolicy(bundle[0]))


@pytest.mark.parametrize(("field", "value"), [("algorithm", "sac"), ("keep", 0.0), ("rows", 0)])
def test_bad_settings_name_their_field(field, value):
    with pytest.raises(SpecError, match=f"agent.{field}"):
        Settings(**{field: value})


def test_neutral_is_the_action_that_changes_nothing():
    env = FunctionVectorEnv(1, PROBLEMS, rules=HAZARD)
    env.reset(seed=5)
    over, info = np.zeros(1, bool), {}
    while not over.any():
        _, _, _, over, info = env.step(np.array([NEUTRAL]))
    from stoker.envs.problems import stream

    cluster, workload = PROBLEMS.sample(stream(5, 0, 0))
    expected = simulate(cluster, workload, HazardIndex())[0].summary()
    assert info["summary"][0]["total_usd"] == expected["total_usd"]
