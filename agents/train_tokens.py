"""`stoker train experiment=batching_llm`: PPO on the token budget of LLM functions.

Every function is a row, a tick a step. The network begins as Sarathi-Serve's rule for its target
(budget_policy.py). The run folder gets `policy.pt` (weights alone), `scores.json` and
`tensorboard/`.

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

from stoker.agents import judged, token_rows
from stoker.agents.budget_policy import BudgetPolicy
from stoker.agents.ppo_settings import PpoSettings
from stoker.agents.progress import bar
from stoker.agents.sb3_env import Sb3VecEnv
from stoker.baselines import search
from stoker.baselines.registry import load_policy
from stoker.envs.cluster.observe_tokens import TERMS
from stoker.envs.token_view import TokenTurnEnv

JUDGED_ROWS = 128
"""Problems that every policy is judged on."""


@dataclass(frozen=True, kw_only=True)
class Settings(PpoSettings):
    """How to learn; `gamma` is the discount over a tick."""

    scale: float
    """Of the rewards, which are costs over the requests that a tick of the row brings on average:
    busy rows do not swamp the others."""


class EvenRows(Sb3VecEnv):
    """Rows whose rewards are per request.

    Args:
        core: the environment.
        scale: of the rewards.
    """

    def __init__(self, core: TokenTurnEnv, scale: float) -> None:
        super().__init__(core)
        self._turns, self._scale = core, scale

    def step_wait(self) -> Any:
        """Run a tick."""
        inner = self._turns.core
        loads = inner.sim.state.workloads
        each = np.array([len(load) / load.horizon_s for load in loads]) * inner.tick_s
        seen, rewards, done, infos = super().step_wait()
        return seen, (self._scale * rewards / each).astype(np.float32), done, infos


class Watch(BaseCallback):
    """Log every cost a row and tick, and the cost a request of finished episodes; show progress."""

    def __init__(self, advance: Any) -> None:
        super().__init__()
        self._advance = advance
        self._terms: list[Any] = []
        self._ended: list[float] = []
        self.requests = 0

    def _on_step(self) -> bool:
        info = self.training_env.info  # type: ignore[attr-defined]
        self._terms.append(info["terms"].mean(axis=0))
        for figures in info.get("summary", ()):
            if figures:
                self._ended.append(figures["cost"] / figures["requests"])
                self.requests += int(figures["requests"])
        return True

    def _on_rollout_end(self) -> None:
        for name, mean in zip(TERMS, np.mean(self._terms, axis=0), strict=True):
            self.logger.record(f"cost/{name}", float(mean))
        if self._ended:
            self.logger.record("episode/cost_a_request", float(np.mean(self._ended)))
        self._terms, self._ended = [], []
        self._advance(self.num_timesteps)


def train(cfg: DictConfig, settings: Settings, margin: float, folder: Path) -> tuple[PPO, int]:
    """Learn on problems of the training seed; also return how many requests that took.

    Args:
        cfg: nodes `env` and `seed`.
        settings: how to learn.
        margin: of Sarathi-Serve's rule, where learning begins.
        folder: of the run.
    """
    torch.set_num_threads(1)
    rows = EvenRows(token_rows.build_rows(cfg.env, settings.rows), settings.scale)
    rows.seed(int(cfg.seed))
    model = PPO(
        BudgetPolicy, rows, **settings.arguments, seed=int(cfg.seed),
        policy_kwargs={"net_arch": list(settings.hidden), "margin": margin},
        tensorboard_log=str(folder / "tensorboard"),
    )  # fmt: skip
    with bar() as progress:
        task = progress.add_task("ppo", total=settings.total_steps)
        watch = Watch(lambda done: progress.update(task, completed=done))
        model.learn(settings.total_steps, callback=watch)
    return model, watch.requests


def run(cfg: DictConfig, folder: Path) -> None:
    """Train, judge against the opponents on problems of their own, write and show."""
    settings = Settings.of(cfg.agent)
    nodes = token_rows.opponents(cfg.env, judged.read_tuned(cfg.tuned))
    rule = nodes.get("sarathi_slo", search.published("sarathi_slo"))
    model, requests = train(cfg, settings, float(rule["margin"]), folder)
    torch.save(model.policy.state_dict(), folder / "policy.pt")
    seed = int(cfg.validation_seeds[0])
    drawn = token_rows.draw(cfg.env, seed, JUDGED_ROWS)
    costs = {name: token_rows.cost(drawn, load_policy(node)) for name, node in nodes.items()}
    env = token_rows.build_rows(cfg.env, JUDGED_ROWS)
    costs["learned"] = token_rows.play(
        env, seed, lambda seen: model.predict(seen, deterministic=True)[0]
    )
    facts = {
        "cost_a_request": {name: float(cost.mean()) for name, cost in costs.items()},
        "simulated_requests": requests,
        "opponents": nodes,
        "rows": {name: cost.tolist() for name, cost in costs.items()},
    }
    (folder / "scores.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"Cost a request over {JUDGED_ROWS} unseen episodes, seed {seed}; then the difference to "
          f"the learned policy:")  # fmt: skip
    for name, own in sorted(costs.items(), key=lambda item: float(item[1].mean())):
        apart = own - costs["learned"]
        half = 1.96 * apart.std(ddof=1) / np.sqrt(len(apart))
        print(f"  {name:<14} {own.mean():.4f}  {apart.mean():+.4f} +- {half:.4f}")
    print(f"requests simulated by the learner: {requests:,}")
    print(f"weights in {folder / 'policy.pt'}")
