"""`stoker train experiment=prewarm|swap|cluster`: PPO on the functions of the ids with ticks.

One small network for all functions, a row each, that begins with keeping what is there. The run
folder gets `policy.pt` (weights alone), `bundle/`, `scores.json` and `tensorboard/`.

Shapes: B clusters, N = B * S rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from stoker.agents import build, judged
from stoker.agents.export import OBSERVATIONS, write_tick_bundle
from stoker.agents.function_rows import FunctionRows
from stoker.agents.nodes import fill, plain
from stoker.agents.ppo_settings import PpoSettings
from stoker.agents.progress import bar
from stoker.agents.stored import collect
from stoker.baselines import search
from stoker.baselines.base import Policy
from stoker.baselines.tick_bundle import TickBundle
from stoker.envs.all_levers import AllLeversVectorEnv
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.idle import TERMS
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster
from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.prewarm import PrewarmVectorEnv
from stoker.envs.problems import SyntheticProblems
from stoker.envs.spread_problems import SpreadProblems
from stoker.envs.swap import SwapVectorEnv
from stoker.envs.workload import Workload

TICKED = {"Prewarm": PrewarmVectorEnv, "Swap": SwapVectorEnv, "Cluster": AllLeversVectorEnv}
KEYS = ("id", "tick_s", "traffic", "spread", "opponents")
JUDGED_ROWS = 32
"""Problems that every policy is judged on."""


@dataclass(frozen=True, kw_only=True)
class Settings(PpoSettings):
    """How to learn; every function of each of the `rows` clusters is a row."""

    neutral: float
    """Initial logit of keeping what is there."""


class Preference(nn.Module):
    """The part of an actor-critic that chooses: observations to logits."""

    def __init__(self, policy: ActorCriticPolicy) -> None:
        super().__init__()
        self.actor, self.head = policy.mlp_extractor, policy.action_net

    def forward(self, observation: Tensor) -> Tensor:
        """Shapes: (N, K) -> (N, A)"""
        logits: Tensor = self.head(self.actor.forward_actor(observation))
        return logits


class Watch(BaseCallback):
    """Log every cost a row and tick, and the figures of finished episodes; show progress."""

    def __init__(self, advance: Any) -> None:
        super().__init__()
        self._advance = advance
        self._terms: list[NDArray[np.float64]] = []
        self._ended: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        rows: FunctionRows = self.training_env  # type: ignore[assignment]
        self._terms.append(rows.terms)
        self._ended += [figures for figures in rows.told.get("summary", ()) if figures]
        return True

    def _on_rollout_end(self) -> None:
        for name, cost in zip(TERMS, np.mean(self._terms, axis=0), strict=True):
            self.logger.record(f"reward/{name}", -float(cost))
        for name in ("total_usd", "cold_ratio", "p95_s", "slo_attainment") if self._ended else ():
            mean = float(np.mean([figures[name] for figures in self._ended]))
            self.logger.record(f"episode/{name}", mean)
        self._terms, self._ended = [], []
        self._advance(self.num_timesteps)


def build_core(node: DictConfig, rows: int) -> ClusterVectorEnv:
    """Build the cluster view that the `env` node describes."""
    options = plain(node)
    for name in options:
        if name not in KEYS:
            raise SpecError(f"env.{name}", options[name], " | ".join(KEYS))
    if options["id"] not in TICKED:
        raise SpecError("env.id", options["id"], " | ".join(TICKED))
    inner = fill("env.traffic", SyntheticProblems, options["traffic"])
    problems = fill("env.spread", SpreadProblems, {"inner": inner, **options["spread"]})
    core = TICKED[options["id"]](
        rows, problems=problems, tick_s=options["tick_s"], slo_rate=0.0, copy=False
    )
    assert isinstance(core, ClusterVectorEnv)
    return core


def train(cfg: DictConfig, settings: Settings, folder: Path) -> tuple[PPO, FunctionRows]:
    """Learn on problems of the training seed; also return what was learned on."""
    torch.set_num_threads(1)
    rows = FunctionRows(build_core(cfg.env, settings.rows))
    rows.seed(int(cfg.seed))
    model = PPO(
        "MlpPolicy", rows, **settings.arguments, seed=int(cfg.seed),
        policy_kwargs={"net_arch": list(settings.hidden)},
        tensorboard_log=str(folder / "tensorboard"),
    )  # fmt: skip
    with torch.no_grad():
        model.policy.action_net.bias[rows.core.levers.neutral] = settings.neutral
    with bar() as progress:
        task = progress.add_task("ppo", total=settings.total_steps)
        watch = Watch(lambda done: progress.update(task, completed=done))
        model.learn(settings.total_steps, callback=watch)
    return model, rows


def problems_of(cfg: DictConfig) -> list[tuple[Cluster, Workload]]:
    """Draw the problems of the first validation seed."""
    core = build_core(cfg.env, JUDGED_ROWS)
    core.reset(seed=int(cfg.validation_seeds[0]))
    return list(zip(core.sim.clusters, core.sim.state.workloads, strict=True))


def judge(
    problems: Sequence[tuple[Cluster, Workload]], policies: dict[str, Policy]
) -> dict[str, list[float]]:
    """Dollars of every policy on the same problems, one at a time: their functions differ."""
    return {
        name: [simulate(*problem, policy)[0].bill.total_usd for problem in problems]
        for name, policy in policies.items()
    }


def export(model: PPO, rows: FunctionRows, cfg: DictConfig, folder: Path) -> Path:
    """Write the bundle, checked on observations of training problems."""
    core, seen = rows.core, collect(model, rows)
    np.save(folder / OBSERVATIONS, seen)
    card = {"env": f"stoker/{cfg.env.id}-v0", "train": f"{model.num_timesteps:,} function-ticks"}
    return write_tick_bundle(
        folder / "bundle", Preference(model.policy), seen, core.levers, core.rules,
        core.tick_s, card,
    )  # fmt: skip


def run(cfg: DictConfig, folder: Path) -> None:
    """Train, export, judge what was exported against the opponents, write and show."""
    settings = Settings.of(cfg.agent)
    nodes = {name: search.published(name) for name in cfg.env.opponents}
    if cfg.tuned is not None:
        nodes |= {k: v for k, v in judged.read_tuned(cfg.tuned).items() if k in nodes}
    policies = {name: build.build_policy(node) for name, node in nodes.items()}
    model, rows = train(cfg, settings, folder)
    torch.save(model.policy.state_dict(), folder / "policy.pt")
    bundle = export(model, rows, cfg, folder)
    costs = judge(problems_of(cfg), {"learned": TickBundle(bundle), **policies})
    (folder / "scores.json").write_text(
        json.dumps({"total_usd": costs, "steps": settings.total_steps}, indent=1) + "\n"
    )
    means = {name: float(np.mean(usd)) for name, usd in costs.items()}
    print(f"Dollars an episode, {JUDGED_ROWS} unseen problems; then against the learned policy:")
    for name, mean in sorted(means.items(), key=lambda item: item[1]):
        ratio = np.log(np.array(costs[name]) / np.array(costs["learned"]))
        half = 1.96 * ratio.std(ddof=1) / np.sqrt(len(ratio))
        low, high = np.exp([ratio.mean() - half, ratio.mean() + half]) - 1.0
        print(f"  {name:<18} {mean:9.3f}  {low:+7.1%} .. {high:+.1%}")
    print(f"bundle in {bundle}")
