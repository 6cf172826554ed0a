"""A policy of stable-baselines3 that leans towards a rule which follows from the observation.

Neither the learner nor its buffer know of the rule; the rest of the network begins at almost
nothing, so learning starts from it.

Shapes: B rows, K features, A actions.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor


class LeaningPolicy(ActorCriticPolicy):
    """An actor-critic that looks at the observation before it acts or judges."""

    _rule: Tensor
    """What the rule takes. Shape: (B, 1)"""

    @abstractmethod
    def look(self, observation: Tensor) -> None:
        """Note what the rule takes, and whatever else the logits rest on. Shape: (B, K)"""

    def lean(self, logits: Tensor, lead: float) -> Tensor:
        """Add a lead to the logit of what the rule takes. Shape: (B, A)"""
        return logits.scatter_add(
            1, self._rule, torch.full_like(self._rule, lead, dtype=logits.dtype)
        )

    def forward(self, obs: Tensor, deterministic: bool = False) -> Any:
        """Act, and say what it is worth and how likely it was."""
        self.look(obs)
        return super().forward(obs, deterministic)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> Any:
        """Value, log-probability and entropy of actions that were taken."""
        self.look(obs)
        return super().evaluate_actions(obs, actions)

    def get_distribution(self, obs: Any) -> Distribution:
        """Return the distribution over the actions."""
        self.look(obs)
        return super().get_distribution(obs)
