"""A policy of stable-baselines3 for the token budget that begins as Sarathi-Serve's rule.

What that rule (baselines/sarathi_slo.py) would take follows from the observation, with the decodes
that there are in place of those expected: the largest budget that an iteration can fill in time.
It leads by a fixed logit, and the rest of the network begins at almost nothing.

Shapes: B rows, K features, A actions.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor

from stoker.agents.leaning_policy import LeaningPolicy
from stoker.envs.cluster.observe_tokens import BUDGETS, FEATURES, SIZES

FIRST = 1 + [name for name, _ in FEATURES].index(f"iteration_{BUDGETS[0]}")
"""Column of the first budget's iteration time; the flag of the slot comes before the features."""
PRIOR = 4.0
"""Added to the logit of what the rule takes."""


class BudgetPolicy(LeaningPolicy):
    """An actor-critic whose logits lean towards the largest budget that is in time.

    Args:
        margin: of the target, that an iteration may take.
    """

    def __init__(self, *args: Any, margin: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.margin = margin

    def look(self, observation: Tensor) -> None:
        """Note what the rule takes. Shape: (B, 1)"""
        in_time = observation[:, FIRST : FIRST + SIZES] <= self.margin
        self._rule = torch.clamp(in_time.sum(dim=1) - 1, min=0)[:, None]

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        logits = self.action_net(latent_pi)
        return self.action_dist.proba_distribution(action_logits=self.lean(logits, PRIOR))
