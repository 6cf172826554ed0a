"""`stoker train`: the application around `learner.train`.

Training problems are drawn from the training part of the traffic: random functions and hours, sizes
and start-up times mapped anew, a memory ratio and a variant of the scenario; what is deployed is
chosen on the validation part. The run folder gets `tensorboard/`, `checkpoint.pt`,
`validation.json` and `bundle/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from stoker.agents import build, judged, tracks, train_batching, train_ticks, train_tokens
from stoker.agents.build_functions import map_functions
from stoker.agents.learner import Trained, train
from stoker.agents.nodes import plain
from stoker.agents.progress import bar
from stoker.agents.settings import Settings
from stoker.baselines.hazard import HazardIndex
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.workload import Workload

__all__ = ["ConfigProblems", "Settings", "Trained", "train"]
SEEDS = 2**31
USUAL_HOURS = 4.0
"""Length of an episode where none is asked for and the training part is longer."""


class ConfigProblems:
    """Problems of a config's training traffic, as `stoker tune` and `evaluate` build theirs.

    Args:
        cfg: nodes workload, scenario, cluster, and `variants`, `ratios`, `env`.
        seed: of the traffic.
    """

    def __init__(self, cfg: DictConfig, seed: int) -> None:
        self._cluster = plain(cfg.cluster)
        self._scenarios = [
            plain(OmegaConf.merge(cfg.scenario, change))  # type: ignore[arg-type]
            for change in (cfg.get("variants") or {"": {}}).values()
        ]
        self._ratios = [float(r) for r in cfg.ratios]
        workload, table = build.build_workload(cfg.workload, seed)
        whole = {**self._scenarios[0], "function_share": 1.0}
        self._workload, self._table = build.shape_traffic(workload, whole, seed), table
        share = float(self._scenarios[0]["function_share"]) * float(cfg.env.function_share)
        self.functions = max(int(share * len(self._workload.names)), 1)
        whole = self._workload.horizon_s / 3600.0
        hours = min(USUAL_HOURS, whole) if cfg.env.hours is None else float(cfg.env.hours)
        if not 0.0 < hours <= whole * (1.0 + 1e-9):
            raise SpecError("env.hours", hours, f"> 0, <= {whole:g} (the training part)")
        self._hours_s = min(hours * 3600.0, self._workload.horizon_s)
        count, each = build.pools(self._cluster, self.functions)
        listed = self._cluster["gpus"]
        self.gpus = count * each if listed is None else self._cluster["nodes"] * len(listed)

    def sample(self, rng: np.random.Generator) -> tuple[Cluster, Workload]:
        """Draw functions, a window, a mapping, a memory ratio and a scenario."""
        names = len(self._workload.names)
        chosen = np.sort(rng.choice(names, self.functions, replace=False))
        start_s = float(rng.uniform(0.0, self._workload.horizon_s - self._hours_s))
        part = self._workload.select(chosen).window(start_s, start_s + self._hours_s)
        scenario = dict(self._scenarios[int(rng.integers(len(self._scenarios)))])
        scenario["ratio"] = self._ratios[int(rng.integers(len(self._ratios)))]
        functions = map_functions(part, self._table, scenario, int(rng.integers(SEEDS)))
        return build.build_cluster(self._cluster, scenario, part, functions), part


def base_rules(tuned: str | None) -> Rules:
    """Rules of the hazard index: as tuned, or its defaults."""
    if tuned is None:
        return HazardIndex().rules
    nodes = judged.read_tuned(tuned)
    if "hazard" not in nodes:
        raise SpecError("tuned", tuned, "a tune run that searched hazard")
    return build.build_policy(nodes["hazard"]).rules


def settings_of(node: DictConfig) -> Settings:
    """Fill `Settings` from the agent node; an unknown key is the user's mistake."""
    options = plain(node)
    known = [f.name for f in fields(Settings)]
    for name in options:
        if name not in known:
            raise SpecError(f"agent.{name}", options[name], " | ".join(known))
    return Settings(**options)


def validation_problems(cfg: DictConfig, seeds: Sequence[int]) -> list[tuple[Cluster, Workload]]:
    """Build the problems that choose what is deployed: the validation part, all ratios."""
    merged = OmegaConf.merge(cfg, {"scenario": {"part": cfg.validation_part}})
    assert isinstance(merged, DictConfig)
    cases = tracks.build_cases(merged, seeds, cfg.ratios)
    return [(case.problem.cluster, case.problem.workload) for case in cases]


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="train")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    run(cfg, Path(HydraConfig.get().runtime.output_dir))


def run(cfg: DictConfig, folder: Path) -> None:
    """Train on the environment that the config names; KeepAlive's is the default."""
    if "variant" in cfg.env:
        no_faults(cfg)
        train_tokens.run(cfg, folder)
    elif "problems" in cfg.env:
        no_faults(cfg)
        train_batching.run(cfg, folder)
    elif "id" in cfg.env:
        train_ticks.run(cfg, folder)
    else:
        run_idle(cfg, folder)


def no_faults(cfg: DictConfig) -> None:
    """Refuse faults where training would not meet them."""
    if build.fault_rates(cfg.get("faults")) is not None:
        raise SpecError("faults", plain(cfg.faults), "none, or env=prewarm | swap | cluster")


def run_idle(cfg: DictConfig, folder: Path) -> None:
    """Train the policy that is asked when a function becomes idle."""
    no_faults(cfg)
    settings = settings_of(cfg.agent)
    problems = ConfigProblems(cfg, cfg.seed)
    validation = validation_problems(cfg, cfg.validation_seeds)
    resume = None if cfg.resume is None else Path(cfg.resume) / "checkpoint.pt"
    if resume is not None and not resume.is_file():
        raise SpecError("resume", cfg.resume, "a train run's folder, with checkpoint.pt in it")
    card = {"workload": validation[0][1].source, "profile": validation[0][0].profile}
    with bar() as progress:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        trained = train(
            problems, validation, base_rules(cfg.tuned), folder, settings,
            warmup_s=cfg.warmup_s, card=card, opponents=_lines(cfg.tuned), progress=report,
            resume=resume,
        )  # fmt: skip
    show(trained, folder, "untuned" if cfg.tuned is None else "tuned")


def _lines(tuned: str | None) -> dict[str, float]:
    """Scores of the tuned opponents, to draw as reference lines."""
    if tuned is None:
        return {}
    return judged.read_scores(tuned)


def show(trained: Trained, folder: Path, base: str) -> None:
    """Say what was learned and where it lies; `base`: whether the base heuristic was tuned."""
    print(f"Validation cost over the base heuristic's (1 = the {base} hazard index):")
    for name, value in sorted(trained.scores.items(), key=lambda item: item[1]):
        mark = "  <- deployed" if name == trained.chosen else ""
        print(f"  {name:<22} {value:.4f}{mark}")
    print(f"requests simulated by the learner: {trained.simulated_requests:,}")
    print(f"bundle in {trained.bundle}")
    print(f"tensorboard --logdir {folder / 'tensorboard'}")


if __name__ == "__main__":
    main()
