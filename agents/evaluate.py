"""`stoker evaluate`: judge policies on held-out traffic: table, Parquet and HTML report.

Every policy runs in every cell (scenario, ratio, trace, seed), under its headline setting and those
of its frontier; the clairvoyant bound and the hazard oracle stand beside them. Writes
`results.parquet`, `scores.json` and `report.html` into the run folder.

Units: seconds, dollars.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from stoker.agents import scores, tables, tracks
from stoker.agents.judged import Judged, gather, tuning_said
from stoker.agents.progress import bar
from stoker.agents.report import write_report
from stoker.agents.terminal import print_scores
from stoker.agents.tracks import Case
from stoker.baselines import search
from stoker.envs.cluster.errors import SpecError

BOUND = "bound"
AGGREGATES = ("sum", "median", "geomean")
TOLERANCE = 1e-6
"""Share of the bound by which rounding may put a policy below it."""
Rows = list[dict[str, Any]]


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    run(cfg, Path(HydraConfig.get().runtime.output_dir))


def run(cfg: DictConfig, folder: Path) -> None:
    """Judge, write and show."""
    if cfg.aggregate not in AGGREGATES:
        raise SpecError("aggregate", cfg.aggregate, " | ".join(AGGREGATES))
    cases = tracks.build_cases(cfg, cfg.seeds, cfg.ratios)
    judged = gather(cfg, search.time_scale(cases[0].problem.cluster.first_bin_s))
    with bar() as progress:
        rows = judge(judged, cases, float(cfg.warmup_s), progress)
        if cfg.bound:
            rows += bounds(cases, float(cfg.warmup_s), progress)
    conclude(folder, cfg, rows, provenance(cfg, judged, cases))


def judge(
    judged: Sequence[Judged], cases: Sequence[Case], warmup_s: float, progress: Progress
) -> Rows:
    """Run every setting of every policy on every case."""
    rows: Rows = []
    for one in judged:
        task = progress.add_task(one.name, total=len(one.settings) * len(cases))
        for setting in one.settings:
            labels = {"policy": one.name, "kind": one.kind, "point": setting.point}
            found = tracks.run_policy(
                setting.policy,
                cases,
                warmup_s=warmup_s,
                wait_factor=setting.wait_factor,
                done=lambda n, task=task: progress.advance(task, n),
            )
            rows += [{**labels, **row} for row in found]
    return rows


def bounds(cases: Sequence[Case], warmup_s: float, progress: Progress) -> Rows:
    """Compute the clairvoyant bound of every case."""
    from stoker.baselines.bounds.best_case import best_case
    from stoker.baselines.bounds.lagrangian import lower_bound

    task = progress.add_task(BOUND, total=len(cases))
    rows: Rows = []
    for case in cases:
        problem = case.problem
        cluster, workload = best_case(problem.cluster, problem.workload, problem.faults)
        began = time.perf_counter()
        if warmup_s > 0.0:
            workload = workload.window(warmup_s, workload.horizon_s)
        found = lower_bound(cluster, workload, carried=warmup_s > 0.0)
        rows.append(
            {
                "policy": BOUND,
                "kind": BOUND,
                **case.cell,
                "total_usd": found.total_usd,
                "rent_usd": found.rent_usd,
                "load_usd": found.load_usd,
                "wait_usd": found.wait_usd,
                "requests": float(len(workload)),
                "wall_s": time.perf_counter() - began,
            }
        )
        progress.advance(task)
    return rows


def provenance(cfg: DictConfig, judged: Sequence[Judged], cases: Sequence[Case]) -> dict[str, Any]:
    """State what the result rests on."""
    requests = [len(case.problem.workload) for case in cases]
    facts: dict[str, Any] = {
        "sources": sorted({case.problem.workload.source for case in cases})[:8],
        "profiles": sorted({case.problem.cluster.profile for case in cases}),
        "requests a cell": f"{min(requests):,} to {max(requests):,}",
        "warm-up left out": f"{cfg.warmup_s:g} s",
        "tuned by": str(cfg.tuned or "nothing: the heuristics are untuned"),
        **tuning_said(judged),
    }
    if cfg.learned is not None:
        facts["learned"] = str(cfg.learned)
    return facts


def conclude(folder: Path, cfg: DictConfig, rows: Rows, facts: dict[str, Any]) -> None:
    """Write rows, scores and report, and print the tables."""
    rows = tables.check_rows(rows)
    tables.write_rows(rows, folder / "results.parquet")
    main_rows = tables.headline(rows)
    known = scores.references(main_rows, cfg.aggregate)
    target = cfg.slo_target
    if target is None:
        target = scores.default_target(main_rows, known)
    lines = scores.score(rows, np.random.default_rng(cfg.seed), target, cfg.aggregate)
    groups = scores.by_ratio(rows, np.random.default_rng(cfg.seed), cfg.aggregate)
    low = below_bound(rows)
    said = {"provenance": facts, "below_bound": low, "scores": scores.as_records(lines)}
    (folder / "scores.json").write_text(json.dumps(said, indent=2, default=str) + "\n")
    report = write_report(
        folder / "report.html",
        rows,
        np.random.default_rng(cfg.seed),
        provenance={**facts, **({"BELOW THE BOUND": low} if low else {})},
        config=OmegaConf.to_yaml(cfg, resolve=True),
        slo_target=target,
        how=cfg.aggregate,
    )
    print_scores(lines, known, target, groups=groups)
    print(f"untuned: {facts['untuned']}; costs compared by {cfg.aggregate}; report: {report}")
    for line in low:
        Console(stderr=True).print(f"WARNING: {line}", style="bold red", highlight=False)


def below_bound(rows: Sequence[tables.Row]) -> list[str]:
    """Name every run that costs less than the bound of its cell: a fault of bound or bill."""
    floor = {tables.cell(row): row["total_usd"] for row in rows if row["kind"] == BOUND}
    out = []
    for row in rows:
        least = floor.get(tables.cell(row))
        if row["kind"] == BOUND or least is None:
            continue
        if row["total_usd"] < least * (1.0 - TOLERANCE):
            where = "scenario {}, ratio {:g}, trace {}, seed {}".format(*tables.cell(row))
            usd = f"${row['total_usd']:.6g} < ${least:.6g}"
            out.append(f"{row['policy']} (point {row['point']}) is below the bound: {usd}, {where}")
    return out


if __name__ == "__main__":
    main()
