"""`stoker bench` on small work: figures come out, budgets are compared, mistakes are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import composed, stoker

from stoker.agents import bench_engine, bench_llm, bench_runtime
from stoker.agents.bench_figure import Figure


def test_a_figure_meets_its_budget_on_the_right_side() -> None:
    assert Figure("p", "speed", 2.0, "x", 1.0).met is True
    assert Figure("p", "time", 2.0, "s", 1.0, more_is_better=False).met is False
    assert Figure("p", "info", 2.0, "x").met is None


def test_the_engine_part_measures_every_case() -> None:
    figures = bench_engine.measure(composed("bench", "requests=3000", "repeats=1"))
    assert len({figure.name for figure in figures}) == len(figures) == 10
    assert all(figure.value > 0.0 for figure in figures)


def test_the_llm_part_measures_every_case() -> None:
    figures = bench_llm.measure(composed("bench", "requests=300", "repeats=1"))
    assert len({figure.name for figure in figures}) == len(figures) == 11
    assert all(figure.value > 0.0 for figure in figures)


@pytest.mark.slow
def test_the_runtime_part_measures_and_batching_is_worth_three_times_one_by_one() -> None:
    figures = bench_runtime.measure(composed("bench", "requests=100"))
    assert len({figure.name for figure in figures}) == len(figures) == 18
    assert all(figure.value > 0.0 for figure in figures)
    (ratio,) = (f for f in figures if f.name == "continuous batching over one by one")
    assert ratio.value >= 3.0


def test_json_goes_to_standard_output_alone(tmp_path: Path) -> None:
    done = stoker("bench", "what=bound", "json=true", "requests=3000", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["machine"]["cores"] >= 1
    assert {figure["part"] for figure in facts["figures"]} == {"bound"}
    assert json.loads((tmp_path / "bench.json").read_text()) == facts


def test_without_simfaas_the_peer_says_how_to_get_it() -> None:
    from stoker.agents import bench_peer

    if bench_peer.interpreter(None) is None:
        (figure,) = bench_peer.measure(composed("bench"))
        assert "simfaas==0.2.2" in figure.note


def test_an_unknown_part_is_one_line(tmp_path: Path) -> None:
    done = stoker("bench", "what=engin", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    assert "what = 'engin' is not accepted" in done.stderr
