"""A policy of stable-baselines3 for `stoker/Batching-v0` that gives masked actions no probability.

What is legal follows from the observation (queue and largest batch), so the mask is part of the
network and neither the learner nor its buffer know of it.

Shapes: B rows, K features, A = 2 + Z actions (Z batch sizes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from stoker.envs.cluster.batching import DROP, RUN
from stoker.envs.cluster.observe_batch import FEATURES

_NAMES = [name for name, _ in FEATURES]
QUEUED, LARGEST, HOPELESS = (_NAMES.index(name) for name in ("queued", "largest", "hopeless"))
NEVER = -1e8
"""Logit of a masked action."""
PRIOR = 2.5
"""Added to the logit of refusing the head where even alone it would be late, else of the largest
batch there is: learning starts near that rule."""


class MaskedPolicy(ActorCriticPolicy):
    """An actor-critic whose logits are masked.

    Args:
        sizes: of batches, ascending.
    """

    def __init__(self, *args: Any, sizes: Sequence[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        smaller = torch.tensor([0, *list(sizes)[:-1]], dtype=torch.float32)
        self.register_buffer("smaller", smaller, persistent=False)

    def look(self, observation: Tensor) -> None:
        """Note which actions are legal (B, A), and which one the rule takes (B, 1)."""
        queued = torch.round(torch.exp(4.0 * observation[:, QUEUED]) - 1.0)
        room = torch.minimum(queued, torch.round(torch.exp(4.0 * observation[:, LARGEST])))
        always = torch.ones_like(observation[:, :RUN], dtype=torch.bool)
        self._legal = torch.cat([always, room[:, None] > self.smaller], dim=1)
        largest = self._legal.sum(dim=1) - 1  # legal actions come first
        self._rule = torch.where(observation[:, HOPELESS] > 0.0, DROP, largest)[:, None]

    def forward(self, obs: Tensor, deterministic: bool = False) -> Any:
        """Act, and say what it is worth and how likely it was."""
        self.look(obs)
        return super().forward(obs, deterministic)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> Any:
        """Value, log-probability and entropy of actions that were taken."""
        self.look(obs)
        return super().evaluate_actions(obs, actions)

    def get_distribution(self, obs: Any) -> Distribution:
        """Return the distribution over the legal actions."""
        self.look(obs)
        return super().get_distribution(obs)

    def logits(self, observation: Tensor) -> Tensor:
        """What `get_distribution` rests on, for a graph. Shapes: (B, K) -> (B, A)"""
        self.look(observation)
        return self._masked(self.mlp_extractor.forward_actor(observation))

    def _masked(self, latent: Tensor) -> Tensor:
        logits = self.action_net(latent).masked_fill(~self._legal, NEVER)
        return logits.scatter_add(
            1, self._rule, torch.full_like(self._rule, PRIOR, dtype=logits.dtype)
        )

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        return self.action_dist.proba_distribution(action_logits=self._masked(latent_pi))
