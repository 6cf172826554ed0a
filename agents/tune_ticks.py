"""`stoker tune env=prewarm|swap|cluster`: search the settings of these ids' opponents.

Every setting runs the same training problems; the score is the mean log of its dollars over those
of the reference policy as published.

Shapes: N problems.  Units: dollars.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from stoker.agents import build, tune_batching
from stoker.agents.judged import TUNED
from stoker.agents.progress import bar
from stoker.agents.tick_problems import Problem, check_opponents, dollars, draw
from stoker.agents.wording import percent
from stoker.baselines import search, spaces
from stoker.baselines.search import Found

PROBLEMS = 24
"""That judge a setting."""


def run(cfg: DictConfig, folder: Path) -> None:
    """Search every opponent's space at one budget of requests, and write what was found."""
    names = check_opponents(cfg.env.opponents)
    problems = draw(
        cfg.env, PROBLEMS, int(cfg.train_seeds[0]), build.fault_rates(cfg.get("faults"))
    )
    requests = sum(len(workload) for _, workload, _ in problems)
    trials = tune_batching.trials_of(cfg, requests, f"{PROBLEMS} training problems")
    found = tune(cfg, names, problems, trials)
    tune_batching.write(folder, cfg, found, requests)
    print(f"Cost against {search.REFERENCE} as published, mean over {PROBLEMS} problems:")
    for name, result in sorted(found.items(), key=lambda item: item[1].score):
        before, after = (
            percent(float(np.expm1(score)), sign=True)
            for score in (result.published_score, result.score)
        )
        print(f"  {name:<18} {before} -> {after}  in {len(result.trials)} settings")
    print(f"settings in {folder / TUNED}")


def tune(
    cfg: DictConfig, names: Sequence[str], problems: Sequence[Problem], trials: int
) -> dict[str, Found]:
    """Search each policy's space in turn."""
    reference, found = dollars(build.build_policy(search.published(search.REFERENCE)), problems), {}
    with bar() as progress:
        for name in names:
            planned = trials if spaces.SPACES[name] else 1
            task = progress.add_task(name, total=planned)

            def score(node: search.Node, task: Any = task) -> float:
                progress.advance(task)
                return float(np.log(dollars(build.build_policy(node), problems) / reference).mean())

            found[name] = search.search(name, score, planned, seed=cfg.seed, method=cfg.method)
    return found
