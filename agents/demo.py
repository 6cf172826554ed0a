"""`stoker demo`: from nothing to a trained policy that steers real models on this machine.

Trains small models, measures them, compresses a trace to their speed, tunes the published policies,
learns a residual on the hazard index, judges all on held-out traffic, and replays a minute of it
on the real models, the simulator's prediction beside the measurement.

Units: seconds, dollars.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf

from stoker.agents import evaluate, scores, tables, tune
from stoker.agents.build import Problem
from stoker.agents.demo_problems import DeployedProblems
from stoker.agents.demo_sizes import FULL, Size, quick
from stoker.agents.demo_summary import Written, announce, write_summary
from stoker.agents.demo_traffic import Traffic, demo_traffic
from stoker.agents.deployed import TYPICAL_LOAD_S, Deployed
from stoker.agents.judged import gather, read_tuned
from stoker.agents.learner import Trained, train
from stoker.agents.progress import bar
from stoker.agents.real_run import Compared, compare, live, maker, print_comparison
from stoker.agents.stages import Stages, bars
from stoker.agents.tracks import Case
from stoker.baselines import search
from stoker.baselines.base import IdlePolicy
from stoker.baselines.bundle import BundlePolicy
from stoker.baselines.registry import KEEP_ALIVE, POLICIES, load_policy
from stoker.baselines.search import Found
from stoker.envs.cluster.decision import IdlePlan
from stoker.envs.cluster.simulation import simulate
from stoker.envs.problems import stream
from stoker.runtime.calibrate import calibrate
from stoker.runtime.catalog import Model
from stoker.runtime.event_guard import heuristic
from stoker.runtime.profile import read_profile, write_profile
from stoker.runtime.training import train_demo_models

OURS = ("train", "tune", "evaluate", "profile.yaml", "summary.json")
"""What a run writes under its folder, and the next one replaces; the models are kept."""
STAGES = 6
SCENARIO = "this machine"


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="demo")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    Demo(Path(cfg.output), quick() if cfg.quick else FULL, cfg).run()


class Demo:
    """The stages and what they hand on."""

    def __init__(self, folder: Path, size: Size, cfg: DictConfig) -> None:
        self.folder, self.size = folder, size
        self.seed, self.quick = int(cfg.seed), bool(cfg.quick)
        self.stages = Stages(STAGES)
        folder.mkdir(parents=True, exist_ok=True)
        for name in OURS:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def run(self) -> None:
        """Run all stages."""
        models = self._models()
        deployed = Deployed(self._calibrate(models), models)
        traffic = demo_traffic(deployed.compression, np.random.default_rng(self.seed), self.quick)
        self._say(deployed, traffic)
        problems = self._problems(deployed, traffic.train, self.size.episode_h)
        cfg = self._config(problems, deployed)
        found = self._tune(cfg, problems)
        trained = self._train(cfg, problems, deployed, traffic, found)
        cases = self._held_out(deployed, traffic)
        self._evaluate(cfg, trained, cases)
        compared = self._replay(deployed, traffic)
        print_comparison(compared)
        written = Written(self.folder, self.stages.seconds, self.stages.total_s, trained.bundle)
        write_summary(written, deployed, traffic, compared, trained)
        announce(written)

    # MACHINE

    def _models(self) -> tuple[Model, ...]:
        names = ", ".join(recipe.name for recipe in self.size.recipes)
        about = f"train {names} (or find them trained)"
        with self.stages.stage("models", about), bars() as progress:
            folder = self.folder / "models"
            return train_demo_models(folder, self.seed, progress, self.size.recipes)

    def _calibrate(self, models: tuple[Model, ...]) -> dict[str, Any]:
        about = "process start, loads and batches on this machine"
        with self.stages.stage("calibrate", about), bars() as progress:
            # One bar: the steps follow each other.
            measured = calibrate(
                models,
                passes=self.size.passes,
                rest_s=self.size.rest_s,
                progress=lambda what, done: progress("steps", done),
            )
            write_profile(measured, self.folder / "profile.yaml")
        return read_profile(self.folder / "profile.yaml")

    def _say(self, deployed: Deployed, traffic: Traffic) -> None:
        print(f"      traffic: {traffic.name}")
        print(
            f"      time compressed {deployed.compression:.1f}x: {TYPICAL_LOAD_S:g} s (a GPU loads "
            f"8 GiB) / {1000.0 * deployed.mean_load_s:.1f} ms (mean load here); "
            f"first_bin_s {deployed.first_bin_s:.4g}",
            flush=True,
        )

    # PROBLEMS

    def _problems(self, deployed: Deployed, workload: Any, hours: float) -> DeployedProblems:
        window_s = min(3600.0 * hours / deployed.compression, workload.horizon_s)
        count = min(self.size.functions, len(workload.names))
        return DeployedProblems(deployed, workload, count, window_s, self.size.ratios)

    def _cases(self, problems: DeployedProblems, seeds: tuple[int, ...], trace: str) -> list[Case]:
        out = []
        for seed in seeds:
            rng = np.random.default_rng([self.seed, seed])
            workload = problems.traffic(rng)
            served = problems.deployed.draw(workload.names, rng)
            for ratio in problems.ratios:
                cluster = problems.deployed.cluster(served, workload, ratio)
                out.append(Case(SCENARIO, ratio, trace, seed, Problem(cluster, workload)))
        return out

    def _held_out(self, deployed: Deployed, traffic: Traffic) -> list[Case]:
        hours = traffic.test.horizon_s * deployed.compression / 3600.0
        problems = self._problems(deployed, traffic.test, hours)
        return self._cases(problems, self.size.seeds, f"{traffic.name} (test)")

    # POLICIES

    def _config(self, problems: DeployedProblems, deployed: Deployed) -> DictConfig:
        """Settings that tuning and evaluation share; the budget is what the learner gets."""
        s = self.size.settings
        decisions = s.collect + s.total_steps
        warmup_s = 3600.0 * self.size.warmup_h / deployed.compression
        return OmegaConf.create(
            {
                "seed": self.seed,
                "policies": {name: {"_target_": POLICIES[name]} for name in KEEP_ALIVE},
                "tuned": str(self.folder / "tune"),
                "learned": str(self.folder / "train" / "bundle"),
                "ratios": list(self.size.ratios),
                "train_seeds": [],
                "seeds": list(self.size.seeds),
                "frontier": list(self.size.frontier),
                "budget_requests": round(decisions * requests_per_decision(problems)),
                "method": "tpe",
                "oracle": True,
                "bound": True,
                "slo_target": None,
                "aggregate": "sum",
                "warmup_s": warmup_s,
            }
        )

    def _tuning_cases(self, cfg: DictConfig, problems: DeployedProblems) -> list[Case]:
        """Draw as many problems as let the budget judge about `trials` settings of each policy."""
        cases: list[Case] = []
        while sum(len(c.problem.workload) for c in cases) * self.size.trials < cfg.budget_requests:
            cfg.train_seeds = [*cfg.train_seeds, 100 + len(cfg.train_seeds)]
            cases += self._cases(problems, (cfg.train_seeds[-1],), "train")
        return cases

    def _tune(self, cfg: DictConfig, problems: DeployedProblems) -> dict[str, Found]:
        about = f"{', '.join(KEEP_ALIVE)}; {cfg.budget_requests:,} simulated requests each"
        with self.stages.stage("tune", about):
            cases = self._tuning_cases(cfg, problems)
            found = tune.tune(cfg, cases)
            tune.write(self.folder / "tune", cfg, cases, found)
            tune.show(found, cases)
        return found

    def _train(
        self,
        cfg: DictConfig,
        problems: DeployedProblems,
        deployed: Deployed,
        traffic: Traffic,
        found: dict[str, Found],
    ) -> Trained:
        s = self.size.settings
        about = f"{s.collect + s.total_steps:,} decisions on training functions and hours"
        unseen = self._problems(deployed, traffic.validation, self.size.episode_h)
        validation = [unseen.sample(stream(self.seed, k, 0)) for k in range(self.size.validation)]
        card = {
            "trace": traffic.name,
            "train": problems.workload.source,
            "compression": deployed.compression,
            "tick": "event: a function becomes idle",
            "profile": str(deployed.profile["name"]),
            "memory_ratios": list(self.size.ratios),
        }
        base = load_policy(found["hazard"].node)
        lines = {n: float(np.exp(f.score - found["hazard"].score)) for n, f in found.items()}
        with self.stages.stage("train", about), bars() as progress:
            trained = train(
                problems, validation, base.rules, self.folder / "train",
                replace(s, seed=self.seed), warmup_s=cfg.warmup_s, card=card, opponents=lines,
                progress=progress,
            )  # fmt: skip
        print(f"      validation chose: {trained.chosen}", flush=True)
        return trained

    def _evaluate(self, cfg: DictConfig, trained: Trained, cases: list[Case]) -> None:
        about = f"{len(cases)} held-out problems: unseen functions, later hours"
        judged = gather(cfg, search.time_scale(cases[0].problem.cluster.first_bin_s))
        with self.stages.stage("evaluate", about):
            with bar() as shown:
                rows = evaluate.judge(judged, cases, float(cfg.warmup_s), shown)
                rows += evaluate.bounds(cases, float(cfg.warmup_s), shown)
            facts = evaluate.provenance(cfg, judged, cases)
            evaluate.conclude(self.folder / "evaluate", cfg, rows, facts)

    # REAL MODELS

    def _replay(self, deployed: Deployed, traffic: Traffic) -> list[Compared]:
        rows = tables.read_rows(self.folder / "evaluate" / "results.parquet")
        best = scores.references(tables.headline(rows)).published or "faascache"
        tuned = read_tuned(self.folder / "tune")
        bundle = self.folder / "train" / "bundle"
        makers = {"learned": lambda: BundlePolicy(bundle)}
        makers |= {name: maker(tuned[name]) for name in (best, "hazard")}
        hours = traffic.test.horizon_s * deployed.compression / 3600.0
        rng = np.random.default_rng([self.seed, self.size.seeds[0]])
        whole = self._problems(deployed, traffic.test, hours).traffic(rng)
        served = deployed.draw(whole.names, rng)
        cluster = deployed.cluster(served, whole, self.size.replay_ratio)
        part = whole.window(0.0, min(self.size.replay_s, whole.horizon_s))
        about = f"{part.horizon_s:.0f} s of held-out traffic ({len(part):,} requests)"
        out, noise = [], deployed.noise(self.seed)
        with self.stages.stage("replay", f"{about}, under {', '.join(makers)}"), bars() as progress:
            for name, make in makers.items():
                tell = lambda what, done, name=name: progress(name, done)  # noqa: E731
                lived = live(make, cluster, part, served, progress=tell)
                out.append(compare(name, make, cluster, lived, part, noise))
        return out


class _Count(IdlePolicy):
    """The heuristic, counting its decisions."""

    calls = 0

    def act(self, observation: np.ndarray) -> IdlePlan:
        self.calls += 1
        return heuristic(observation)


def requests_per_decision(problems: DeployedProblems) -> float:
    """Measure how many requests one decision of the learner costs the simulator."""
    cluster, workload = problems.sample(np.random.default_rng(0))
    counting = _Count()
    simulate(cluster, workload, counting)
    return max(len(workload) / max(counting.calls, 1), 1.0)


if __name__ == "__main__":
    main()
