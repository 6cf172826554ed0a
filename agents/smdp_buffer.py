"""A rollout buffer for steps that take unequal time: the discount of a step is gamma ** dt.

Shapes: T steps, B rows.  Units: dt in latency targets of the row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer

from stoker.agents.sb3_env import Sb3VecEnv


class SmdpBuffer(RolloutBuffer):
    """Generalised advantage estimation (Schulman et al. 2016) with the discounts that time gives.

    At the end of an episode stable-baselines3 adds gamma times the value of the last observation to
    the reward, as if the last step had taken one target.

    Args:
        env: whose `info["dt"]` and `info["scale"]` say how long each step took.
    """

    env: Sb3VecEnv

    def __init__(self, *args: Any, env: Sb3VecEnv, **kwargs: Any) -> None:
        self.env = env
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Forget everything."""
        self.discounts = np.zeros((self.buffer_size, self.n_envs), np.float32)
        super().reset()

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Add one step of every row."""
        info = self.env.info
        self.discounts[self.pos] = self.gamma ** (info["dt"] / info["scale"])
        super().add(*args, **kwargs)

    def compute_returns_and_advantage(
        self, last_values: torch.Tensor, dones: NDArray[np.bool_]
    ) -> None:
        """Fill advantages and returns, last step first."""
        following = last_values.clone().cpu().numpy().flatten()
        going_on, ahead = 1.0 - dones.astype(np.float32), np.zeros(self.n_envs, np.float32)
        for t in reversed(range(self.buffer_size)):
            discount = self.discounts[t] * going_on
            delta = self.rewards[t] + discount * following - self.values[t]
            ahead = delta + discount * self.gae_lambda * ahead
            self.advantages[t] = ahead
            following, going_on = self.values[t], 1.0 - self.episode_starts[t]
        self.returns = self.advantages + self.values
