"""`stoker evaluate`: every policy in every cell, the bound below, the files and the warning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import composed, stoker

from stoker.agents import evaluate, scores, tables, tracks
from stoker.agents.judged import gather
from stoker.baselines.bounds.lagrangian import lower_bound
from stoker.baselines.hazard_oracle import HazardOracle, gap_table
from stoker.envs.cluster.tables import NONE

SMALL = ("workload.functions=40", "workload.hours=2.0", "workload.requests_per_s=0.5")
QUICK = (*SMALL, "seeds=[0,1]", "ratios=[0.4,0.7]", "frontier=[0.5,1.0]", "scenario.part=all")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("evaluate")
    done = stoker("evaluate", *QUICK, "scenario=fifo_links", f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    assert "below the bound" not in done.stderr
    return folder, done.stdout


def test_every_policy_is_in_every_cell_and_none_is_below_the_bound(run: tuple[Path, str]) -> None:
    rows = tables.read_rows(run[0] / "results.parquet")
    main = tables.headline(rows)
    names = {"ttl", "lru", "faascache", "hybrid_histogram", "hazard", "hazard_oracle", "bound"}
    assert set(tables.policies(main)) == names
    assert len(tables.cells(main)) == 4 and len(main) == 4 * len(names)
    assert evaluate.below_bound(rows) == []
    assert tables.points(rows, "hazard") == [0, 1] and tables.points(rows, "lru") == [0]


def test_the_terminal_and_the_report_say_what_is_untuned(run: tuple[Path, str]) -> None:
    folder, printed = run
    assert "untuned: ttl, faascache, hybrid_histogram, hazard" in printed
    assert "untuned" in (folder / "report.html").read_text()
    assert json.loads((folder / "scores.json").read_text())["below_bound"] == []


def test_a_row_below_the_bound_is_named() -> None:
    cell = {"scenario": "s", "ratio": 0.5, "trace": "t", "seed": 0}
    rows = [
        {"policy": "bound", "kind": "bound", "total_usd": 2.0, **cell},
        {"policy": "cheat", "kind": "yours", "total_usd": 1.9, **cell},
        {"policy": "honest", "kind": "yours", "total_usd": 2.0, **cell},
    ]
    (line,) = evaluate.below_bound(tables.check_rows(rows))
    assert "cheat" in line and "$1.9 < $2" in line


@pytest.mark.parametrize("warmup_s", [0.0, 1800.0])
def test_the_bound_lies_below_with_a_warmup_too(warmup_s: float) -> None:
    cfg = composed("evaluate", *QUICK, "oracle=true")
    cases = tracks.build_cases(cfg, cfg.seeds, cfg.ratios)
    for case in cases:
        workload = case.problem.workload
        if warmup_s:
            workload = workload.window(warmup_s, workload.horizon_s)
        floor = lower_bound(case.problem.cluster, workload, carried=warmup_s > 0.0).total_usd
        for judged in gather(cfg, 1.0):
            policy = judged.settings[0].policy
            (row,) = tracks.run_policy(policy, [case], warmup_s=warmup_s)
            assert floor <= row["total_usd"] * (1.0 + 1e-9), judged.name


def test_a_dearer_wait_changes_the_policy_and_not_the_price() -> None:
    cfg = composed("evaluate", *QUICK)
    cases = tracks.build_cases(cfg, [0], [3.0])
    (hazard,) = [judged for judged in gather(cfg, 1.0) if judged.name == "hazard"]
    policy = hazard.settings[0].policy
    (plain,) = tracks.run_policy(policy, cases)
    (eager,) = tracks.run_policy(policy, cases, wait_factor=4.0)
    assert eager["wait_s"] < plain["wait_s"] and eager["rent_usd"] > plain["rent_usd"]
    price = cases[0].problem.cluster.objective.wait_usd_s
    assert eager["wait_usd"] == pytest.approx(eager["wait_s"] * price)


def test_the_oracle_s_table_names_the_gap_that_each_arrival_ends() -> None:
    (case,) = tracks.build_cases(composed("evaluate", *QUICK), [0], [0.7])
    cluster, workload = case.problem.cluster, case.problem.workload
    table, first = gap_table(cluster, workload)
    fn = int(workload.function[0])
    own = workload.arrival_s[workload.function == fn]
    assert table[first[fn]] == NONE  # nothing was idle before the first arrival
    service_s = workload.service_s[workload.function == fn]
    gap_s = own[1] - own[0] - service_s[0]
    expected = NONE if gap_s <= 0.0 else int(evaluate_bin(gap_s, cluster.first_bin_s))
    assert table[first[fn] + 1] == expected


def evaluate_bin(gap_s: float, first_bin_s: float) -> float:
    """Count the bins' upper edges below a gap, one by one."""
    k, edge = 0, first_bin_s
    while gap_s >= edge and k < 71:
        k, edge = k + 1, first_bin_s * 2.0 ** ((k + 1) / 5)
    return k


def test_the_oracle_beats_the_index_that_has_to_learn() -> None:
    cfg = composed("evaluate", *QUICK, "seeds=[0,1,2]", "workload.hours=6.0")
    cases = tracks.build_cases(cfg, cfg.seeds, [0.5])
    (hazard,) = [judged for judged in gather(cfg, 1.0) if judged.name == "hazard"]
    learnt = tracks.run_policy(hazard.settings[0].policy, cases)
    known = tracks.run_policy(HazardOracle(), cases)
    assert sum(r["total_usd"] for r in known) < sum(r["total_usd"] for r in learnt)


def test_a_folder_without_tuned_settings_is_one_line(tmp_path: Path) -> None:
    done = stoker("evaluate", *QUICK, f"tuned={tmp_path}", f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "tuned" in line and "tuned.yaml" in line


def test_near_saturation_one_huge_cell_decides_a_sum_and_not_a_geometric_mean() -> None:
    cells = [{"scenario": "s", "ratio": 0.5, "trace": "t", "seed": seed} for seed in range(4)]
    usd = {"steady": (10.0, 10.0, 10.0, 10_000.0), "lucky": (20.0, 20.0, 20.0, 9_000.0)}
    usd |= {"bound": (5.0, 5.0, 5.0, 5_000.0)}
    rows = tables.check_rows(
        {
            "policy": name,
            "kind": "bound" if name == "bound" else "published",
            "total_usd": cost,
            **cell,
        }
        for name, costs in usd.items()
        for cell, cost in zip(cells, costs, strict=True)
    )
    assert scores.references(rows, "sum").published == "lucky"
    assert scores.references(rows, "geomean").published == "steady"
    lines = scores.score(rows, np.random.default_rng(0), how="geomean")
    assert [line.policy for line in lines] == ["bound", "steady", "lucky"]
    assert lines[1].regret.value == pytest.approx(1.0)
    assert lines[1].cost_usd.value == pytest.approx(10.0 * 10.0**0.75)
