"""A policy of stable-baselines3 for `stoker/Batching-v0` that begins as Nexus and knows its mask.

What is legal, and what Nexus (baselines/nexus.py) would do, follow from the observation: the mask
and Nexus's choice are part of the network, and neither the learner nor its buffer know of them. The
rest of the network begins at almost nothing, so learning starts from that heuristic.

Shapes: B rows, K features, A = 2 + Z actions (Z batch sizes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor

from stoker.agents.leaning_policy import LeaningPolicy
from stoker.envs.cluster.batching import DROP, RUN
from stoker.envs.cluster.observe_batch import FEATURES

_NAMES = [name for name, _ in FEATURES]
QUEUED, LARGEST, HEAD, ONE, MOST = (
    _NAMES.index(name) for name in ("queued", "largest", "slack_1", "service_one", "service_most")
)
NEVER = -1e8
"""Logit of a masked action."""
PRIOR = 2.5
"""Added to the logit of what Nexus does."""


class MaskedPolicy(LeaningPolicy):
    """An actor-critic whose logits are masked and lean towards Nexus.

    Args:
        sizes: of batches, ascending.
        factor: of Nexus: latency target over the time of the batch that is aimed at.
    """

    def __init__(self, *args: Any, sizes: Sequence[int], factor: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("sizes", torch.tensor(list(sizes)).float(), persistent=False)
        smaller = torch.tensor([0, *list(sizes)[:-1]]).float()
        self.register_buffer("smaller", smaller, persistent=False)
        self.factor = factor

    def look(self, observation: Tensor) -> None:
        """Note which actions are legal (B, A), and which one Nexus takes (B, 1)."""
        queued = torch.round(torch.exp(4.0 * observation[:, QUEUED]) - 1.0)
        most = torch.round(torch.exp(4.0 * observation[:, LARGEST]))
        room = torch.minimum(queued, most)
        always = torch.ones_like(observation[:, :RUN], dtype=torch.bool)
        self._legal = torch.cat([always, room[:, None] > self.smaller], dim=1)
        # Times in latency targets: of each further request, then of an empty batch.
        each = (observation[:, MOST] - observation[:, ONE]) / torch.clamp(most - 1.0, min=1.0)
        fixed = observation[:, ONE] - each
        aim = torch.floor((1.0 / self.factor - fixed) / torch.clamp(each, min=1e-9) + 1e-4)
        aim = torch.minimum(torch.clamp(aim, min=1.0), most)
        lost = fixed + each * torch.minimum(aim, queued) > observation[:, HEAD]
        everything = (room[:, None] > self.sizes).sum(dim=1)
        fits = (aim[:, None] >= self.sizes).sum(dim=1) - 1
        size = torch.where(aim >= room, everything, torch.minimum(fits, everything))
        last = self.sizes.shape[0] - 1
        runs = RUN + torch.clamp(size, min=0, max=last)
        self._rule = torch.where(lost, DROP, runs)[:, None]

    def logits(self, observation: Tensor) -> Tensor:
        """What `get_distribution` rests on, for a graph. Shapes: (B, K) -> (B, A)"""
        self.look(observation)
        return self._masked(self.mlp_extractor.forward_actor(observation))

    def _masked(self, latent: Tensor) -> Tensor:
        logits = self.action_net(latent).masked_fill(~self._legal, NEVER)
        return self.lean(logits, PRIOR)

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        return self.action_dist.proba_distribution(action_logits=self._masked(latent_pi))
