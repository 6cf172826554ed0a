"""`stoker train experiment=batching`: PPO on the function view of `stoker/Batching-v0`.

The learner of keep-alive decides once a gap and so needs no discount; here decisions follow each
other in the same queue, hence plain PPO with a discount that follows the time. The run folder gets
`policy.pt` (weights alone), `bundle/`, `scores.json` and `tensorboard/`.

Shapes: B rows, K features.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor, nn

from stoker.agents import judged
from stoker.agents.export import OBSERVATIONS, write_batch_bundle
from stoker.agents.masked_policy import MaskedPolicy
from stoker.agents.ppo_settings import PpoSettings
from stoker.agents.progress import bar
from stoker.agents.sb3_env import Sb3VecEnv
from stoker.agents.smdp_buffer import SmdpBuffer
from stoker.agents.stored import collect
from stoker.agents.tune_batching import build_rows
from stoker.baselines import search
from stoker.baselines.batch_bundle import BatchBundle
from stoker.baselines.batch_policy import BatchPolicy, Floats, play
from stoker.baselines.batch_registry import BATCHING, load_batch_policy
from stoker.envs.batching_core import WEIGHTS

JUDGED_ROWS, JUDGED_EPISODES = 64, 4
"""What every policy is judged on: so many rows, episodes each."""


@dataclass(frozen=True, kw_only=True)
class Settings(PpoSettings):
    """How to learn; `gamma` is the discount over one latency target."""

    scale: float
    """Of the rewards: hundreds of requests can be late at once, and gradients are clipped."""


class Preference(nn.Module):
    """The part of the policy that chooses: observations to masked logits."""

    def __init__(self, policy: MaskedPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor) -> Tensor:
        """Shapes: (B, K) -> (B, A)"""
        return self.policy.logits(observation)


class Watch(BaseCallback):
    """Log every cost a step, and show progress."""

    def __init__(self, advance: Any) -> None:
        super().__init__()
        self._advance, self._costs = advance, {}
        self.requests = 0

    def _on_step(self) -> bool:
        info = self.model.get_env().info  # type: ignore[union-attr]
        self.requests += int(info["requests"].sum())
        for name, cost in info["costs"].items():
            self._costs.setdefault(name, []).append(float(cost.mean()))
        return True

    def _on_rollout_end(self) -> None:
        for name, means in self._costs.items():
            self.logger.record(f"cost/{name}", float(np.mean(means)))
        self._costs = {}
        self._advance(self.num_timesteps)


def run(cfg: DictConfig, folder: Path) -> None:
    """Train, judge against the opponents on episodes of their own, write and show."""
    settings = Settings.of(cfg.agent)
    nodes = {name: search.published(name) for name in BATCHING}
    if cfg.tuned is not None:
        nodes |= judged.read_tuned(cfg.tuned)
    model, requests = train(cfg, settings, float(nodes["nexus"]["factor"]), folder)
    torch.save(model.policy.state_dict(), folder / "policy.pt")
    bundle = export(model, cfg, folder)
    policies = {name: load_batch_policy(node) for name, node in nodes.items()}
    costs = judge(cfg, {**policies, "learned": BatchBundle(bundle)})
    means = {name: float(cost.mean()) for name, cost in costs.items()}
    facts = {"cost_a_request": means, "simulated_requests": requests,
             "rows": {name: cost.tolist() for name, cost in costs.items()}}  # fmt: skip
    (folder / "scores.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"Cost a request over {JUDGED_ROWS} x {JUDGED_EPISODES} episodes, seed "
          f"{cfg.validation_seeds[0]}; then the difference to the learned policy:")  # fmt: skip
    for name, mean in sorted(means.items(), key=lambda item: item[1]):
        apart = costs[name] - costs["learned"]
        half = 1.96 * apart.std(ddof=1) / np.sqrt(len(apart))
        print(f"  {name:<10} {mean:.4f}  {apart.mean():+.4f} +- {half:.4f}")
    print(f"requests simulated by the learner: {requests:,}")
    print(f"bundle in {bundle}")


def export(model: PPO, cfg: DictConfig, folder: Path) -> Path:
    """Write the bundle, checked on observations of training problems."""
    env = model.get_env()
    assert env is not None and isinstance(model.policy, MaskedPolicy)
    seen = collect(model, env)
    np.save(folder / OBSERVATIONS, seen)
    card = {"env": "stoker/Batching-v0", "train": f"{model.num_timesteps:,} decisions"}
    return write_batch_bundle(
        folder / "bundle", Preference(model.policy), seen, list(cfg.env.sizes),
        float(cfg.env.wait_share), card,
    )  # fmt: skip


def train(cfg: DictConfig, settings: Settings, factor: float, folder: Path) -> tuple[PPO, int]:
    """Learn on problems of the training seed; also return how many requests that took.

    Args:
        cfg: nodes `env` and `seed`.
        settings: how to learn.
        factor: of Nexus, where learning begins.
        folder: of the run.
    """
    torch.set_num_threads(1)
    weights = {name: settings.scale * weight for name, weight in WEIGHTS.items()}
    core = build_rows(cfg.env, settings.rows, weights=weights, copy=False)
    env = Sb3VecEnv(core)
    shape = {"net_arch": list(settings.hidden), "sizes": core.sizes.tolist(), "factor": factor}
    env.seed(int(cfg.seed))
    model = PPO(
        MaskedPolicy, env, **settings.arguments, policy_kwargs=shape, seed=int(cfg.seed),
        rollout_buffer_class=SmdpBuffer, rollout_buffer_kwargs={"env": env},
        tensorboard_log=str(folder / "tensorboard"),
    )  # fmt: skip
    with bar() as progress:
        task = progress.add_task("ppo", total=settings.total_steps)
        watch = Watch(lambda done: progress.update(task, completed=done))
        model.learn(settings.total_steps, callback=watch)
    return model, watch.requests


def judge(cfg: DictConfig, policies: dict[str, BatchPolicy]) -> dict[str, Floats]:
    """Mean cost of a request under each policy, row by row, on the same episodes. Shape: (B,)"""
    env = build_rows(cfg.env, JUDGED_ROWS)
    seed = int(cfg.validation_seeds[0])
    return {name: play(env, policy, JUDGED_EPISODES, seed) for name, policy in policies.items()}
