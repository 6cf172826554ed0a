"""The learners of the ids with ticks: PPO, with masks, with memory, and DQN.

All see the same rows (function_rows.py) and begin with the neutral choice: their last layer favours
it by `neutral`. A mask is used where the learner can (`maskable_ppo`); for the others a masked
choice is replaced by the environment.

Shapes: N rows, K columns, A joint choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from stoker.agents.function_rows import FunctionRows
from stoker.agents.nodes import plain
from stoker.agents.ppo_settings import LearnerSettings, PpoSettings
from stoker.agents.tick_memory import RecurrentPreference
from stoker.envs.cluster.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class OnPolicy(PpoSettings):
    """PPO, plain, with masks or with an LSTM of the size of `hidden`'s first layer."""

    algorithm: str
    deviations: int
    """Episodes of clusters that deviate from the heuristic, see deviations.py; 0 = none."""
    neutral: float
    """What the logit of keeping to the heuristic begins above the others."""
    groups: int
    """Neighbouring clusters on the same problem: rewards are taken against their mean; 1 = not."""
    team: float
    """Share of the whole cluster's costs in a row's reward, see function_rows.py."""


@dataclass(frozen=True, kw_only=True)
class OffPolicy(LearnerSettings):
    """DQN."""

    algorithm: str
    deviations: int
    neutral: float
    """What the value of keeping to the heuristic begins above the others."""
    groups: int
    team: float
    buffer_size: int
    learning_starts: int
    """Steps before the first gradient; like all others, a function's tick is one."""
    train_every: int
    """Ticks between two rounds of gradient steps."""
    gradient_steps: int
    target_every: int
    """Steps between two updates of the target network."""
    explore_share: float
    """Share of the training over which chance choices become few."""
    explore_least: float
    """Share of chance choices from then on."""


TickSettings = OnPolicy | OffPolicy
LEARNERS: dict[str, Any] = {
    "ppo": PPO, "maskable_ppo": MaskablePPO, "recurrent_ppo": RecurrentPPO, "dqn": DQN,
}  # fmt: skip


def read_settings(node: DictConfig) -> TickSettings:
    """Read the `agent` node."""
    name = plain(node).get("algorithm")
    if name not in LEARNERS:
        raise SpecError("agent.algorithm", name, " | ".join(LEARNERS))
    settings = (OffPolicy if name == "dqn" else OnPolicy).of(node)
    if settings.rows % settings.groups:
        raise SpecError("agent.groups", settings.groups, f"a divisor of {settings.rows} (rows)")
    if settings.deviations and name == "recurrent_ppo":
        raise SpecError("agent.deviations", settings.deviations, "0 (recurrent_ppo)")
    return settings


def build_learner(
    rows: FunctionRows, settings: TickSettings, seed: int, folder: Path
) -> BaseAlgorithm:
    """Build a learner that begins with the neutral choice."""
    common: dict[str, Any] = {"seed": seed, "tensorboard_log": str(folder / "tensorboard")}
    shape: dict[str, Any] = {"net_arch": list(settings.hidden), "activation_fn": nn.Tanh}
    learner = LEARNERS[settings.algorithm]
    if isinstance(settings, OffPolicy):
        model = learner(
            "MlpPolicy", rows, policy_kwargs=shape, device="cpu",
            learning_rate=settings.learning_rate, batch_size=settings.batch_size,
            gamma=settings.gamma, buffer_size=settings.buffer_size,
            learning_starts=settings.learning_starts, train_freq=(settings.train_every, "step"),
            gradient_steps=settings.gradient_steps,
            target_update_interval=settings.target_every,
            exploration_fraction=settings.explore_share,
            exploration_final_eps=settings.explore_least, **common,
        )  # fmt: skip
        heads = [model.policy.q_net.q_net[-1], model.policy.q_net_target.q_net[-1]]
    else:
        name = "MlpPolicy"
        if settings.algorithm == "recurrent_ppo":
            name, shape = "MlpLstmPolicy", {**shape, "lstm_hidden_size": settings.hidden[0]}
        model = learner(name, rows, policy_kwargs=shape, **settings.arguments, **common)
        heads = [model.policy.action_net]
    with torch.no_grad():
        for head in heads:
            head.bias[rows.core.levers.neutral] += settings.neutral
    built: BaseAlgorithm = model
    return built


def preference(model: BaseAlgorithm) -> nn.Module:
    """Return the part of a learner's network that chooses."""
    return RecurrentPreference(model) if isinstance(model, RecurrentPPO) else Preference(model)


class Preference(nn.Module):
    """The part of a network that chooses: observations to logits, or to values of the choices."""

    def __init__(self, model: BaseAlgorithm) -> None:
        super().__init__()
        policy: Any = model.policy
        if isinstance(model, DQN):
            self.body: nn.Module = nn.Identity()
            self.head: nn.Module = policy.q_net.q_net
        else:
            self.body, self.head = policy.mlp_extractor.policy_net, policy.action_net

    def forward(self, observation: Tensor) -> Tensor:
        """Shapes: (N, K) -> (N, A)"""
        preference: Tensor = self.head(self.body(observation))
        return preference
