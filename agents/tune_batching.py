"""`stoker tune env=batching`: search the settings of the batching opponents on training problems.

Every setting plays the same episodes; the score is the mean cost of a request.

Shapes: B rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stoker.agents.judged import TUNED
from stoker.agents.nodes import plain
from stoker.agents.progress import bar
from stoker.baselines import search
from stoker.baselines.batch_policy import play
from stoker.baselines.batch_registry import BATCHING, load_batch_policy
from stoker.baselines.search import Found
from stoker.envs.batch_problems import BatchProblems
from stoker.envs.batching import BatchingFunctionRows
from stoker.envs.cluster.errors import SpecError

ROWS = 32
"""Episodes that judge a setting."""
SETTINGS = ("problems", "sizes", "wait_share")


def build_rows(node: DictConfig, rows: int, **options: Any) -> BatchingFunctionRows:
    """Build the environment that the `env` node describes."""
    asked = plain(node)
    for name in asked:
        if name not in SETTINGS:
            raise SpecError(f"env.{name}", asked[name], " | ".join(SETTINGS))
    known = BatchProblems.__dataclass_fields__
    for name, value in asked["problems"].items():
        if name not in known:
            raise SpecError(f"env.problems.{name}", value, " | ".join(known))
    drawn = {k: tuple(v) if isinstance(v, list) else v for k, v in asked["problems"].items()}
    return BatchingFunctionRows(rows, **{**asked, "problems": BatchProblems(**drawn)}, **options)


def run(cfg: DictConfig, folder: Path) -> None:
    """Search every policy's space at one budget of requests, and write what was found."""
    for name in cfg.policies:
        if name not in BATCHING:
            raise SpecError("policies", name, f"with env=batching {' | '.join(BATCHING)}")
    requests = ROWS * int(cfg.env.problems.requests)
    trials = trials_of(cfg, requests, f"{ROWS} episodes")
    found = tune(cfg, trials)
    write(folder, cfg, found, requests)
    show(found, folder)


def show(found: dict[str, Found], folder: Path) -> None:
    """Say what was found and where it lies."""
    for name, result in sorted(found.items(), key=lambda item: item[1].score):
        setting = ", ".join(f"{k}={v}" for k, v in result.node.items() if k != "_target_")
        print(f"{name:<11} {result.published_score:.4f} -> {result.score:.4f} a request  {setting}")
    print(f"settings in {folder / TUNED}")


def trials_of(cfg: DictConfig, requests: int, what: str) -> int:
    """Return how many settings the budget pays for."""
    trials = int(cfg.budget_requests) // requests
    if trials < 1:
        accepted = f">= {requests:,}: the requests of {what}"
        raise SpecError("budget_requests", cfg.budget_requests, accepted)
    return trials


def tune(cfg: DictConfig, trials: int) -> dict[str, Found]:
    """Search each policy's space in turn."""
    env, found = build_rows(cfg.env, ROWS), {}
    with bar() as progress:
        for name in cfg.policies:
            task = progress.add_task(name, total=trials)

            def score(node: search.Node, task: Any = task) -> float:
                progress.advance(task)
                return float(play(env, load_batch_policy(node), 1, cfg.train_seeds[0]).mean())

            found[name] = search.search(name, score, trials, seed=cfg.seed, method=cfg.method)
    return found


def write(folder: Path, cfg: DictConfig, found: dict[str, Found], requests: int) -> None:
    """Write the settings and every trial."""
    facts = {
        "policies": {name: dict(result.node) for name, result in found.items()},
        "scores": {name: result.report(requests) for name, result in found.items()},
        "env": plain(cfg.env),
        "seeds": [int(cfg.train_seeds[0])],
    }
    trials = {
        name: [{"score": t.score, "setting": t.parameters} for t in result.trials]
        for name, result in found.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    head = "# Written by `stoker tune`; read by `stoker train tuned=FOLDER`.\n"
    (folder / TUNED).write_text(head + OmegaConf.to_yaml(OmegaConf.create(facts)))
    (folder / "trials.json").write_text(json.dumps(trials, indent=1) + "\n")
