"""`stoker tune env=batching_llm`: search the settings of the policies that set the token budget.

Every setting plays the same episodes; the score is the mean cost of a request over the problems.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stoker.agents import token_rows
from stoker.agents.progress import bar
from stoker.agents.tune_batching import show, write
from stoker.baselines import search
from stoker.baselines.registry import load_policy
from stoker.baselines.search import Found
from stoker.envs.cluster.errors import SpecError

ROWS = 64
"""Episodes that judge a setting."""


def run(cfg: DictConfig, folder: Path) -> None:
    """Search every policy's space at one budget of requests, and write what was found."""
    names = list(cfg.env.opponents)
    for name in cfg.policies:
        if name not in names:
            raise SpecError("policies", name, f"with env=batching_llm {' | '.join(names)}")
    drawn = token_rows.draw(cfg.env, int(cfg.train_seeds[0]), ROWS)
    requests = sum(len(workload) for _, workload in drawn)
    trials = int(cfg.budget_requests) // requests
    if trials < 1:
        accepted = f">= {requests:,}: the requests of {ROWS} episodes"
        raise SpecError("budget_requests", cfg.budget_requests, accepted)
    found: dict[str, Found] = {}
    with bar() as progress:
        for name in cfg.policies:
            task = progress.add_task(name, total=trials)

            def score(node: search.Node, task: Any = task) -> float:
                progress.advance(task)
                return float(token_rows.cost(drawn, load_policy(node)).mean())

            found[name] = search.search(name, score, trials, seed=cfg.seed, method=cfg.method)
    write(folder, cfg, found, requests)
    show(found, folder)
