"""`stoker train experiment=prewarm|swap|cluster`: learn on the functions of the ids with ticks.

One small network for all functions, a row each; its stages are those of tick_training.py. The
learned policy and its opponents are judged on the problems of the first validation seed, which have
chosen the stage, and on those of `test_seed`, which have chosen nothing. The run folder gets
`policy.pt` (weights alone), `bundle/`, `scores.json`, `scores.md` and `tensorboard/`.

Shapes: N problems.  Units: dollars.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from stoker.agents import build, tick_table
from stoker.agents.export import OBSERVATIONS, write_tick_bundle
from stoker.agents.stored import collect
from stoker.agents.tick_problems import dollars, draw
from stoker.agents.tick_training import JUDGED_ROWS, Learned, Setting, train
from stoker.agents.tick_watch import add_picture, picture_of_policy
from stoker.baselines import search
from stoker.baselines.base import Policy
from stoker.baselines.tick_bundle import TickBundle

LEARNED = "learned"
Costs = dict[str, list[float]]


def run(cfg: DictConfig, folder: Path) -> None:
    """Train, export, judge what was exported against the opponents, write and show."""
    setting = Setting.of(cfg)
    found = train(setting, folder)
    torch.save(found.model.policy.state_dict(), folder / "policy.pt")
    learned = export(found, cfg, folder)
    policies = {LEARNED: learned, **setting.opponents}
    judged = {
        part: judge(cfg, policies, int(seed))
        for part, seed in (("validation", cfg.validation_seeds[0]), ("test", cfg.test_seed))
    }
    write(folder, setting, found, judged)
    paint(setting, found, judged["validation"])
    show(found, judged["test"])
    print(f"weights, scores and the bundle in {folder}")


def export(found: Learned, cfg: DictConfig, folder: Path) -> Policy:
    """Write the bundle, checked on observations of training problems, and load it again."""
    core = found.rows.core
    seen = collect(found.model, found.rows)
    np.save(folder / OBSERVATIONS, seen)
    steps = f"{found.model.num_timesteps:,} function-ticks"
    card = {"env": f"stoker/{cfg.env.id}-v0", "train": steps, "chosen": found.chosen}
    bundle = write_tick_bundle(
        folder / "bundle", found.module, seen, core.levers, core.rules, core.tick_s, card
    )
    return TickBundle(bundle)


def judge(cfg: DictConfig, policies: dict[str, Policy], seed: int) -> Costs:
    """Dollars of every policy on the problems of a seed."""
    problems = draw(cfg.env, JUDGED_ROWS, seed, build.fault_rates(cfg.get("faults")))
    return {name: dollars(policy, problems).tolist() for name, policy in policies.items()}


def write(folder: Path, setting: Setting, found: Learned, judged: dict[str, Costs]) -> None:
    """Write what every policy costs on every problem, and what was chosen by what."""
    facts: dict[str, Any] = {
        "total_usd": judged["test"],
        "validation_usd": judged["validation"],
        "stages": found.costs,
        "chosen": found.chosen,
        "algorithm": setting.agent.algorithm,
        "steps": setting.agent.total_steps,
        "tuned": None if setting.cfg.tuned is None else str(setting.cfg.tuned),
    }
    (folder / "scores.json").write_text(json.dumps(facts, indent=1) + "\n")
    cfg, seed = setting.cfg, int(setting.cfg.test_seed)
    problems = draw(cfg.env, JUDGED_ROWS, seed, build.fault_rates(cfg.get("faults")))
    test = {**judged["test"], tick_table.BOUND: tick_table.bounds(problems)}
    settings = {name: said(node) for name, node in setting.nodes.items()}
    page = tick_table.page(test, judged["validation"], found.costs, settings, LEARNED, seed)
    (folder / "scores.md").write_text(page)


def said(node: search.Node) -> str:
    """A policy's setting in words."""
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in node.items()
        if key != "_target_"
    )


def paint(setting: Setting, found: Learned, costs: Costs) -> None:
    """Put the timeline of the best opponent into TensorBoard beside the learned policy's."""
    if not setting.opponents:
        return
    best = min(setting.opponents, key=lambda name: np.mean(costs[name]))
    cfg, seed = setting.cfg, int(setting.cfg.validation_seeds[0])
    (problem,) = draw(cfg.env, 1, seed, build.fault_rates(cfg.get("faults")))
    picture = picture_of_policy(setting.opponents[best], problem, float(cfg.env.tick_s))
    add_picture(found.model, best, picture)


def show(found: Learned, costs: Costs) -> None:
    """Print the stages and the test problems' dollars."""
    print("Cost on the validation problems over the heuristic's, stage by stage:")
    for name, value in found.costs.items():
        mark = "  <- deployed" if name == found.chosen else ""
        print(f"  {name:<26} {np.exp(value - found.costs['heuristic']):.4f}{mark}")
    print(f"Dollars an episode, {JUDGED_ROWS} test problems; then against the learned policy:")
    for name, usd in sorted(costs.items(), key=lambda item: np.mean(item[1])):
        ratio = np.log(np.array(usd) / np.array(costs[LEARNED]))
        half = 1.96 * ratio.std(ddof=1) / np.sqrt(len(ratio))
        low, high = np.exp([ratio.mean() - half, ratio.mean() + half]) - 1.0
        print(f"  {name:<18} {np.mean(usd):9.3f}  {low:+7.1%} .. {high:+.1%}")
