"""Every id through the same commands: train, export, evaluate, replay on real models."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from commands import composed, stoker

from stoker.agents import evaluate, export_app, tables, train
from stoker.baselines.bundle import MANIFEST
from stoker.baselines.bundles import load_bundle
from stoker.baselines.registry import load_policy
from stoker.runtime.calibrate import calibrate
from stoker.runtime.profile import write_profile

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from small_models import CNN, GPT, write_model

TICKS = (
    "env.traffic.functions=4", "env.traffic.hours=0.5", "agent.total_steps=256", "agent.rows=2",
    "agent.n_steps=16", "agent.batch_size=64", "agent.groups=2", "agent.deviations=1",
    "env.opponents=[hazard]",
)  # fmt: skip
EXPERIMENTS = {
    "KeepAlive": (
        "quickstart", "workload.functions=12", "workload.hours=6", "env.hours=0.5",
        "validation_seeds=[7]", "agent.collect=2000", "agent.rows=4", "agent.total_steps=2048",
        "agent.n_steps=256", "agent.batch_size=256",
    ),
    "Prewarm": ("prewarm", *TICKS),
    "Swap": ("swap", *TICKS),
    "Cluster": ("cluster", *TICKS),
    "Batching": (
        "batching", "env.problems.requests=30", "agent.total_steps=256", "agent.rows=4",
        "agent.n_steps=16", "agent.batch_size=64",
    ),
}  # fmt: skip
REPLAYED = ("minutes=0.05", "functions=4", "guard.first_budget_s=30")
JUDGED = ("workload.functions=8", "workload.hours=2", "seeds=[0]", "ratios=[0.7]", "frontier=null")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Small models and what they take on this machine, as overrides."""
    folder = tmp_path_factory.mktemp("machine")
    models = (
        write_model(folder / "models" / "cnn", CNN, 0),
        write_model(folder / "models" / "gpt", GPT, 1),
    )
    write_profile(calibrate(models, passes=2), folder / "profile.yaml")
    return f"runtime.models={folder / 'models'}", f"profile={folder / 'profile.yaml'}"


@pytest.mark.parametrize(
    "name",
    [n if n == "Swap" else pytest.param(n, marks=pytest.mark.slow) for n in EXPERIMENTS],
)
def test_train_export_evaluate_replay(name: str, machine: tuple[str, str], tmp_path: Path) -> None:
    experiment, *small = EXPERIMENTS[name]
    run, bundle, judged = (tmp_path / part for part in ("run", "bundle", "judged"))
    for folder in (run, judged):
        folder.mkdir()
    train.run(composed("train", f"experiment={experiment}", *small), run)
    assert list((run / "tensorboard").rglob("events*"))
    export_app.run(composed("export", f"run={run}", f"output={bundle}"), tmp_path)
    assert json.loads((bundle / MANIFEST).read_text())["sha256"]
    assert type(load_bundle(bundle)) is type(load_bundle(run / "bundle"))
    assert type(load_policy(str(bundle))) is type(load_bundle(bundle))
    evaluate.run(composed("evaluate", f"learned={bundle}", *JUDGED), judged)
    rows = [row for row in tables.read_rows(judged / "results.parquet") if row["point"] == 0]
    learned, hazard, bound = (
        next(row for row in rows if row["policy"] == who) for who in ("learned", "hazard", "bound")
    )
    assert learned["kind"] == "learned"
    assert learned["requests"] == hazard["requests"] > 0
    assert bound["total_usd"] <= learned["total_usd"]
    replayed = tmp_path / "replayed"
    others = "against=[faascache,icebreaker]"
    # A bundle of idle events brings its own clock, here that of the trace; the others take any.
    speed = "workload.requests_per_s=60" if name == "KeepAlive" else "compress=100"
    words = (f"bundle={bundle}", *machine, *REPLAYED, others, speed, f"hydra.run.dir={replayed}")
    done = stoker("replay", *words)
    assert done.returncode == 0, done.stderr
    facts = json.loads((replayed / "summary.json").read_text())
    assert set(facts["against"]) == {"faascache", "icebreaker"}
    for lived in (facts, *facts["against"].values()):
        assert lived["errors"] == {} or name == "Batching"  # it may refuse
        assert lived["real"]["requests"] == lived["predicted"]["requests"] > 5
    assert facts["real"]["decisions"] > 0
    assert facts["real"]["fallbacks"] < facts["real"]["decisions"]
