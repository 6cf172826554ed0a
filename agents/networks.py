"""The learned policy's two heads and the module that is exported.

Shapes: N decisions, K features, E experts, A actions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stoker.envs.cluster.observe import K
from stoker.envs.cluster.tables import EXPERTS
from stoker.envs.function_view import MULTIPLIERS, VARIANTS

OWN_HISTORY = 4.0
"""Initial logit of the heuristic's own expert."""
AS_HEURISTIC = 1.5
"""Initial logit of the action that leaves the heuristic as it is."""


class Forecast(nn.Module):
    """Weights of the gap experts, from what is known of the function."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(K, hidden), nn.Tanh(), nn.Linear(hidden, EXPERTS))
        last = self.body[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        with torch.no_grad():
            last.bias[0] = OWN_HISTORY

    def forward(self, observation: Tensor) -> Tensor:
        """Return weights that sum to 1. Shapes: (N, K) -> (N, E)"""
        return torch.softmax(self.body(observation), dim=-1)


class Greedy(nn.Module):
    """The policy as deployed: expected log-multiplier, likeliest variant of the plan.

    Args:
        forecast: head of the gap forecast, or None for the heuristic's own.
        logits: network from observations to action logits, or None for no residual.
        shrink: factor on the log-multiplier, chosen on validation traffic.
    """

    def __init__(self, forecast: nn.Module | None, logits: nn.Module | None, shrink: float) -> None:
        super().__init__()
        self.forecast, self.logits, self.shrink = forecast, logits, shrink
        steps = torch.tensor([math.log(m) for m in MULTIPLIERS], dtype=torch.float32)
        self.register_buffer("steps", steps)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mix (N, E), multiplier (N,) and variant (N,)."""
        n = observation.shape[0]
        zeros = 0.0 * observation[:, 0]
        if self.forecast is None:
            own = torch.zeros(EXPERTS, dtype=observation.dtype)
            own[0] = 1.0
            mix = zeros.unsqueeze(1) + own
        else:
            mix = self.forecast(observation)
        if self.logits is None:
            return mix, zeros + 1.0, zeros.to(torch.int64)
        p = torch.softmax(self.logits(observation), dim=-1).reshape(n, len(MULTIPLIERS), VARIANTS)
        log_multiplier = self.shrink * (p.sum(dim=2) @ self.steps)
        return mix, torch.exp(log_multiplier), p.sum(dim=1).argmax(dim=1)
