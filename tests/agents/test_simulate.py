"""`stoker simulate`, and a policy of one's own as the guide writes it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import composed, stoker

from stoker.agents import tables, tracks
from stoker.agents.build import build_policy
from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import simulate

GUIDE = Path(__file__).parents[2] / "docs" / "your-own-policy.md"
SMALL = ("workload.functions=20", "workload.hours=1.0", "workload.requests_per_s=0.5")


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    block = re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert block is not None
    path = tmp_path_factory.mktemp("mine") / "recent.py"
    path.write_text(block[1])
    return path


def test_a_run_prints_a_summary_and_leaves_its_figures(tmp_path: Path) -> None:
    done = stoker("simulate", "policy=ttl", *SMALL, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "FixedTtl" in done.stdout and "total $" in done.stdout
    (row,) = tables.read_rows(tmp_path / "results.parquet")
    assert row["kind"] == "published" and row["total_usd"] > 0.0
    from pyarrow import parquet

    requests = parquet.read_table(tmp_path / "requests.parquet")
    assert len(requests) == row["requests"]
    assert set(requests["outcome"].to_pylist()) <= {"warm", "cold", "in flight"}
    facts = json.loads((tmp_path / "summary.json").read_text())
    assert facts["summary"]["total_usd"] == pytest.approx(row["total_usd"])


def test_an_llm_serves_by_iterations_and_an_extrapolated_profile_says_so(tmp_path: Path) -> None:
    """Percentiles of the tokens are those of the requests' own columns."""
    profile = "scenario.llm.profile='microsoft/phi-2|a40|tp1'"
    small = ("workload=mmpp2", "workload.hours=0.05", "scenario.llm.runtime_s=1", "policy=ttl")
    done = stoker("simulate", "scenario=llm", profile, *small, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "extrapolated" in done.stdout and "first token P99 s" in done.stdout
    from pyarrow import parquet

    requests = parquet.read_table(tmp_path / "requests.parquet")
    first, arrival = (requests[name].to_numpy() for name in ("first_token_s", "arrival_s"))
    seen = np.isfinite(first)
    assert np.count_nonzero(seen) > 100
    facts = json.loads((tmp_path / "summary.json").read_text())["summary"]
    for p in (50, 95, 99):
        assert facts[f"ttft_p{p}_s"] == pytest.approx(np.percentile((first - arrival)[seen], p))
    gap = requests["max_tbt_s"].to_numpy()
    assert facts["max_tbt_p99_s"] == pytest.approx(np.nanpercentile(gap, 99))
    assert facts["profile"] == "microsoft/phi-2|a40|tp1 (extrapolated)"
    assert facts["tbt_p50_s"] <= facts["max_tbt_p50_s"]


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("scenario.llm.profile=gpt-9", "profile = 'gpt-9'"),
        ("scenario.llm.scheduler=fifo", "function[llm].llm.scheduler = 'fifo'"),
        ("+scenario.llm.speed=2", "scenario.llm.speed = 2"),
        ("scenario.llm.instances=0", "scenario.llm.instances = 0"),
        ("workload=synthetic", "workload.prompt_tokens = None"),
    ],
)
def test_a_mistaken_llm_is_one_line(word: str, named: str, tmp_path: Path) -> None:
    words = ("scenario=llm", "workload=mmpp2", "workload.hours=0.05", word)
    words = tuple(w for w in words if word != "workload=synthetic" or "mmpp2" not in w)
    done = stoker("simulate", *words, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert named in line


def test_the_policy_of_the_guide_runs_by_path(mine: Path, tmp_path: Path) -> None:
    lines = [line for line in mine.read_text().splitlines() if line.strip()]
    assert len(lines) <= 24
    done = stoker("simulate", f"policy={mine}:Recent", *SMALL, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    (row,) = tables.read_rows(tmp_path / "results.parquet")
    assert row["policy"] == "Recent" and row["kind"] == "yours"


def test_a_class_that_the_file_does_not_have_is_one_line(mine: Path, tmp_path: Path) -> None:
    done = stoker("simulate", f"policy={mine}:Nobody", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "Nobody" in line and "here: Recent" in line


def test_without_warmup_the_figures_are_those_of_simulate() -> None:
    (case,) = tracks.build_cases(composed("simulate", *SMALL), [3])
    policy = build_policy("hazard")
    (plain,) = simulate(case.problem.cluster, case.problem.workload, policy)
    (run,) = tracks.results_of(policy, [case.problem])
    assert run.result.summary() == plain.summary()


@pytest.mark.parametrize("warmup_s", [0.0, 1700.0])
def test_faults_are_those_of_simulate_and_rows_do_not_meet(warmup_s: float) -> None:
    faults = ("faults=noisy", "faults.failure_every_s=900", "cluster.nodes=2")
    cases = tracks.build_cases(composed("simulate", *SMALL, *faults), [3, 4])
    problems = [case.problem for case in cases]
    together = [run.result.summary() for run in tracks.results_of(Nothing(), problems, warmup_s)]
    for problem, found in zip(problems, together, strict=True):
        (alone,) = tracks.results_of(Nothing(), [problem], warmup_s)
        assert alone.result.summary() == found
        assert alone.result.counters["retries"] > 0
        if warmup_s == 0.0:
            run = simulate(problem.cluster, problem.workload, Nothing(), faults=problem.faults)[0]
            assert run.summary() == found


class Nothing(Policy):
    """Drop everything at once."""

    tick_s = 100.0

    def decide(self, snapshot: Snapshot) -> Decision:
        return Decision(keep_alive_s=np.zeros(snapshot.idle.shape))


def test_what_happens_before_the_warmup_is_off_the_bill() -> None:
    (case,) = tracks.build_cases(composed("simulate", *SMALL), [3])
    whole = tracks.results_of(Nothing(), [case.problem])[0].result
    late = tracks.results_of(Nothing(), [case.problem], 1800.0)[0].result
    early = case.problem.workload.window(0.0, 1800.0)
    first = replace(case.problem, workload=early)
    opening = tracks.results_of(Nothing(), [first])[0].result
    assert late.bill.rent_usd == pytest.approx(whole.bill.rent_usd - opening.bill.rent_usd)
    kept = case.problem.workload.arrival_s >= 1800.0
    assert late.summary()["requests"] == kept.sum()
    assert late.bill.wait_usd < whole.bill.wait_usd


def test_a_warmup_as_long_as_the_run_is_refused() -> None:
    (case,) = tracks.build_cases(composed("simulate", *SMALL), [3])
    with pytest.raises(SpecError, match="warmup_s"):
        tracks.results_of(Nothing(), [case.problem], 3600.0)


def test_cases_over_other_functions_do_not_share_a_batch() -> None:
    cases = tracks.build_cases(composed("simulate", *SMALL), [0, 1], [0.5, 0.7])
    groups = list(tracks.side_by_side(cases, 8))
    assert [[case.seed for case in group] for group in groups] == [[0, 0], [1, 1]]
