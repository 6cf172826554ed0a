"""Every id through the same commands: train, export, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import composed

from stoker.agents import evaluate, export_app, tables, train
from stoker.baselines.bundle import MANIFEST
from stoker.baselines.bundles import load_bundle
from stoker.baselines.registry import load_policy

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
JUDGED = ("workload.functions=8", "workload.hours=2", "seeds=[0]", "ratios=[0.7]", "frontier=null")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_train_export_evaluate(name: str, tmp_path: Path) -> None:
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
