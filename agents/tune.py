"""`stoker tune`: search every heuristic's parameters on training traffic, at one budget for all.

Writes `tuned.yaml` (one config node a policy: `stoker evaluate tuned=RUN`) and `trials.parquet`
(every setting that was judged) into the run folder.

Units: dollars; scores are natural logarithms of cost ratios.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stoker.agents import tracks, tune_batching, tune_ticks, tune_tokens
from stoker.agents.build import build_policy
from stoker.agents.judged import TUNED
from stoker.agents.progress import bar
from stoker.agents.tracks import Case
from stoker.agents.wording import percent
from stoker.baselines import search, spaces
from stoker.baselines.registry import POLICIES
from stoker.baselines.search import Found
from stoker.envs.cluster.errors import SpecError

OWN = {"variant": tune_tokens, "id": tune_ticks, "problems": tune_batching}
"""Searches on the problems of an environment, by what its config alone has, in this order; that of
keep-alive has none of it."""


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="tune")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    for mark, own in OWN.items():
        if mark in (cfg.get("env") or ()):
            own.run(cfg, Path(HydraConfig.get().runtime.output_dir))
            return
    for name in cfg.policies:
        if name not in POLICIES:
            raise SpecError("policies", name, " | ".join(POLICIES))
    cases = tracks.build_cases(cfg, cfg.train_seeds, cfg.ratios)
    found = tune(cfg, cases)
    folder = Path(HydraConfig.get().runtime.output_dir)
    write(folder, cfg, cases, found)
    show(found, cases)
    print(f"settings in {folder / TUNED}")


def tune(cfg: DictConfig, cases: Sequence[Case]) -> dict[str, Found]:
    """Search each policy's space in turn, with a progress bar."""
    requests = sum(len(case.problem.workload) for case in cases)
    trials = int(cfg.budget_requests) // requests
    if trials < 1:
        accepted = f">= {requests:,}: the requests of the {len(cases)} training problems"
        raise SpecError("budget_requests", cfg.budget_requests, accepted)
    scale = search.time_scale(cases[0].problem.cluster.first_bin_s)
    reference = costs(search.published(search.REFERENCE, scale), cases, cfg.warmup_s)
    found = {}
    with bar() as progress:
        for name in cfg.policies:
            planned = trials if spaces.SPACES[name] else 1
            task = progress.add_task(name, total=planned)

            def score(node: search.Node, task: Any = task) -> float:
                usd = costs(node, cases, cfg.warmup_s)
                progress.advance(task)
                return float(np.mean(np.log(usd / reference)))

            found[name] = search.search(
                name, score, planned, seed=cfg.seed, method=cfg.method, scale=scale
            )
            progress.update(task, completed=planned)
    return found


def costs(node: search.Node, cases: Sequence[Case], warmup_s: float) -> np.ndarray:
    """Return what a policy costs on every case, in dollars. Shape: (N,)."""
    rows = tracks.run_policy(build_policy(node), cases, warmup_s=warmup_s)
    # A problem that costs nothing at all says nothing about a policy, and must not give log 0.
    return np.maximum([row["total_usd"] for row in rows], 1e-12)


def write(folder: Path, cfg: DictConfig, cases: Sequence[Case], found: dict[str, Found]) -> None:
    """Write the settings and every trial."""
    import pyarrow as pa
    from pyarrow import parquet

    requests = sum(len(case.problem.workload) for case in cases)
    facts = {
        "policies": {name: _plain(result.node) for name, result in found.items()},
        "scores": {name: result.report(requests) for name, result in found.items()},
        "reference": search.REFERENCE,
        "budget_requests": int(cfg.budget_requests),
        "ratios": [float(ratio) for ratio in cfg.ratios],
        "scenarios": sorted({case.scenario for case in cases}),
        "traces": sorted({case.trace for case in cases}),
        "seeds": [int(seed) for seed in cfg.train_seeds],
    }
    folder.mkdir(parents=True, exist_ok=True)
    head = "# Written by `stoker tune`; read by `stoker evaluate tuned=FOLDER`.\n"
    (folder / TUNED).write_text(head + OmegaConf.to_yaml(OmegaConf.create(facts)))
    rows = [
        {"policy": name, "trial": k, "score": trial.score, "setting": json.dumps(trial.parameters)}
        for name, result in found.items()
        for k, trial in enumerate(result.trials)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "trials.parquet")


def show(found: dict[str, Found], cases: Sequence[Case]) -> None:
    """Print each policy's cost before and after, the cheapest first."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    title = f"Cost against {search.REFERENCE} as published, mean over {len(cases)} problems"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("policy", "published", "tuned", "settings tried", "setting"):
        table.add_column(head, justify="left" if head in ("policy", "setting") else "right")
    for name, result in sorted(found.items(), key=lambda item: item[1].score):
        table.add_row(
            name,
            _change(result.published_score),
            _change(result.score),
            str(len(result.trials)),
            _setting(result.node),
        )
    console.print(table)


def _change(score: float) -> str:
    return percent(math.expm1(score), sign=True)


def _setting(node: search.Node) -> str:
    shown = {key: value for key, value in node.items() if key != "_target_"}
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in shown.items()
    )


def _plain(node: search.Node) -> dict[str, Any]:
    return {
        key: float(value) if isinstance(value, np.floating) else value
        for key, value in node.items()
    }


if __name__ == "__main__":
    main()
