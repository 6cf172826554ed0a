"""`stoker calibrate`, `stoker replay` and `stoker export` as a user runs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import stoker

from stoker.agents.export import write_bundle
from stoker.agents.networks import Greedy
from stoker.agents.replay import say_density
from stoker.envs.cluster.observe import K
from stoker.envs.cluster.spec import Rules
from stoker.envs.workload import Workload
from stoker.runtime.profile import read_profile

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from small_models import CNN, GPT, write_model

SHORT = ("minutes=0.05", "functions=4", "compress=800")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "cnn", CNN, 0)
    write_model(folder / "gpt", GPT, 1)
    return folder


@pytest.fixture(scope="module")
def profile(models: Path) -> Path:
    path = models.parent / "made" / "profile.yaml"
    words = (f"runtime.models={models}", f"output={path}", f"hydra.run.dir={models.parent}/run")
    done = stoker("calibrate", "repeats=2", *words)
    assert done.returncode == 0, done.stderr
    assert "load disk ms" in done.stdout and str(path) in done.stdout
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A train run's folder as `stoker train` leaves it, with nothing learnt."""
    seen = np.random.default_rng(0).normal(size=(1000, K)).astype(np.float32)
    torch.manual_seed(0)
    rules = Rules(eviction="hazard", plan="hazard")
    np.save(tmp_path / "observations.npy", seen)
    card = {"chosen": "heuristic"}
    write_bundle(tmp_path / "bundle", Greedy(None, None, 0.0), seen, rules, 3.0 / 800.0, card)
    return tmp_path


def refused(*words: str) -> str:
    done = stoker(*words)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def test_a_profile_names_the_models_that_were_measured(profile: Path) -> None:
    assert set(read_profile(profile)["models"]) == {"cnn", "gpt"}


@pytest.mark.parametrize("learned", [False, True])
def test_a_replay_sets_the_prediction_beside_the_measurement(
    models: Path, profile: Path, run: Path, tmp_path: Path, learned: bool
) -> None:
    who = f"bundle={run / 'bundle'}" if learned else "policy=faascache"
    words = (f"runtime.models={models}", f"profile={profile}", f"hydra.run.dir={tmp_path}/out")
    done = stoker("replay", who, *words, *(SHORT[:2] if learned else SHORT))
    assert done.returncode == 0, done.stderr
    assert "predicted" in done.stdout and "off by" in done.stdout
    facts = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert facts["policy"] == ("learned" if learned else "FaasCache")
    assert facts["compression"] == pytest.approx(800.0) and facts["errors"] == {}
    assert facts["real"]["requests"] == facts["predicted"]["requests"] > 10
    assert facts["slower"] == 0.0  # the profile was given
    assert (facts["real"]["decisions"] > 1) == learned
    ratio = facts["real"]["p95_s"] / facts["predicted"]["p95_s"]
    assert facts["off"]["p95_s"] == pytest.approx(ratio - 1.0)
    from pyarrow import parquet

    lived = parquet.read_table(tmp_path / "out" / "requests.parquet")
    assert len(lived) == facts["real"]["requests"]


def request_s(entry: dict[str, Any]) -> float:
    """A batch of one, and its way there and back."""
    return float(entry["alpha_s"] + entry["beta_s"] + entry["order_s"]["p50"])


@pytest.mark.slow
def test_without_a_profile_the_machine_is_measured_before_and_after(
    models: Path, tmp_path: Path
) -> None:
    words = (f"runtime.models={models}", f"hydra.run.dir={tmp_path}/out", "against=[ttl]")
    done = stoker("replay", "policy=faascache", *words, *SHORT)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out" / "summary.json").read_text())
    for found in (facts, facts["against"]["ttl"]):
        # Two measurements agree in no digit but the first ones.
        assert found["slower"] != 0.0 and -0.9 < found["slower"] < 9.0
        assert found["predicted"]["requests"] == found["real"]["requests"]
    profiles = [read_profile(tmp_path / "out" / f"profile-{k}.yaml") for k in range(3)]
    means = [np.mean([request_s(e) for e in p["models"].values()]) for p in profiles]
    assert facts["slower"] == pytest.approx(means[1] / means[0] - 1.0)
    assert facts["against"]["ttl"]["slower"] == pytest.approx(means[2] / means[1] - 1.0)


def test_a_policy_in_shadow_is_logged_and_asked_again(
    models: Path, profile: Path, run: Path, tmp_path: Path
) -> None:
    words = (f"runtime.models={models}", f"profile={profile}", f"hydra.run.dir={tmp_path}/out")
    guard = ("guard.mode=shadow", "guard.fallback=ttl", f"log={tmp_path}/log")
    done = stoker("replay", f"bundle={run}", *words, *guard, "limits.queue_limit=100", *SHORT[:2])
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert facts["mode"] == "shadow" and facts["fallback"] == "FixedTtl" and not facts["errors"]
    asked = stoker("replay", f"bundle={run}", f"ask={tmp_path}/log", f"hydra.run.dir={tmp_path}/a")
    assert asked.returncode == 0, asked.stderr
    again = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert again["decisions"] == facts["real"]["decisions"] - facts["real"]["fallbacks"] - 1 > 1
    assert again["same"] == again["decisions"] and again["differ"] == {}


def test_an_export_is_a_bundle_of_its_own(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "given"
    words = (f"run={run}", f"output={target}", f"hydra.run.dir={tmp_path}/x")
    done = stoker("export", *words)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in target.iterdir()) == ["manifest.json", "policy.onnx"]
    assert stoker("export", *words).returncode == 0, "a second export replaces the first"


def test_a_truncated_bundle_is_one_line(run: Path, tmp_path: Path) -> None:
    graph = run / "bundle" / "policy.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    for words in (("replay", f"bundle={run}"), ("export", f"run={run}")):
        assert "bundle.sha256" in refused(*words, f"hydra.run.dir={tmp_path}/x")


def test_a_bundle_of_another_schema_is_one_line(run: Path, tmp_path: Path) -> None:
    path = run / "bundle" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": "0123"}))
    line = refused("replay", f"bundle={run}", f"hydra.run.dir={tmp_path}/x")
    assert "bundle.schema" in line and "0123" in line


@pytest.mark.parametrize(
    ("command", "word", "field"),
    [
        ("replay", "policy=nobody.py:Nobody", "policy"),
        ("replay", "policy=nobody", "policy"),
        ("replay", "bundle=nowhere", "bundle = 'nowhere'"),
        ("replay", "profile=nowhere.yaml", "profile = 'nowhere.yaml'"),
        ("replay", "minutes=-1", "minutes"),
        ("replay", "guard.mode=passive", "guard.mode"),
        ("replay", "guard.fallback=nobody", "policy = 'nobody'"),
        ("replay", "limits.queue_limit=-1", "limits.queue_limit"),
        ("replay", "+guard.luck=1", "guard.luck"),
        ("replay", "ask=nowhere", "ask"),
        ("replay", "runtime.devices=[abacus]", "runtime.devices"),
        ("replay", "runtime.models=nowhere", "models"),
        ("calibrate", "repeats=0", "repeats"),
        ("calibrate", "runtime.models=nowhere", "models"),
        ("calibrate", "runtime.device_gib=-1", "runtime.device_gib = -1"),
        ("calibrate", "runtime.device_gib=much", "runtime.device_gib = 'much'"),
        ("export", "run=nowhere", "run = 'nowhere'"),
    ],
)
def test_a_mistake_is_one_line(command: str, word: str, field: str, tmp_path: Path) -> None:
    assert field in refused(command, word, f"hydra.run.dir={tmp_path}/x")


@pytest.mark.parametrize(
    ("requests", "said"),
    [(100, True), (251, False), (999, False), (2000, True), (0, True)],
)
def test_a_profile_of_other_traffic_is_told(
    capsys: pytest.CaptureFixture[str], requests: int, said: bool
) -> None:
    arrival_s = np.linspace(0.0, 10.0, requests, endpoint=False)
    work = Workload(arrival_s, np.zeros(requests, np.int32), ("f",), 10.0)
    say_density(work, {"rest_s": 0.02})
    line = capsys.readouterr().out
    assert ("stoker calibrate rest_s=" in line) == said
    if requests == 2000:
        assert "every 20 ms" in line and "every 5:" in line and "rest_s=0.005" in line
    say_density(work, {})  # a profile that does not say
    assert capsys.readouterr().out == ""


def test_calibrate_refuses_a_rest_that_is_none() -> None:
    assert "rest_s = 0 is not accepted: expected a time > 0" in refused("calibrate", "rest_s=0")
