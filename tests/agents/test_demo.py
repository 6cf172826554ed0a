"""The demo from end to end, small, twice in a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import stoker

from stoker.agents.learned import load_learned


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_runs_twice_and_leaves_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    for _ in range(2):
        done = stoker("demo", "quick=true", f"output={folder}")
        assert done.returncode == 0, done.stderr
        assert "[6/6] replay" in done.stdout and "time compressed" in done.stdout
    facts = json.loads((folder / "summary.json").read_text())
    names = {score["policy"] for score in facts["scores"]}
    assert {"learned", "hazard", "ttl", "faascache", "hybrid_histogram", "bound"} <= names
    assert facts["bound"]["below_bound"] == []
    assert facts["trace"]["real"] is False and facts["trace"]["name"].startswith("synthetic")
    assert {"learned", "hazard"} <= set(facts["runtime"])
    for row in facts["runtime"].values():
        assert row["errors"] == {}
        assert row["real"]["requests"] == row["predicted"]["requests"] > 0
    for name in ("bundle", "report", "tensorboard", "profile"):
        assert Path(facts[name]).exists(), name
    card = load_learned(facts["bundle"]).manifest["card"]
    assert card["compression"] == pytest.approx(facts["compression"]["factor"])
    assert "event" in card["tick"]
