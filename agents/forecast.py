"""Train the forecast head: likelihood of the gaps that came, censored where they had not ended.

The likelihood of a gap is the mixture of what six experts gave it when it ended, so the head learns
whom to trust. Supervised, seconds of CPU (DESIGN section 5).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from stoker.agents.decisions import Closed, OpenDecisions
from stoker.agents.networks import Forecast
from stoker.envs.function_view import NEUTRAL, FunctionVectorEnv

FLOOR = 1e-6
"""Least likelihood of a gap, so that one surprise does not decide."""


def collect(
    env: FunctionVectorEnv,
    decisions: int,
    seed: int,
    progress: Callable[[int], None] = lambda n: None,
) -> Closed:
    """Run the heuristic for so many decisions and keep those that close."""
    observation, info = env.reset(seed=seed)
    waiting = OpenDecisions(env)
    action = np.full(env.num_envs, NEUTRAL)
    no_log_prob = np.zeros(env.num_envs, np.float32)
    parts = []
    for _ in range(max(decisions // env.num_envs, 1)):
        waiting.open(info["function"], observation, action, no_log_prob)
        observation, reward, _, _, info = env.step(action)
        parts.append(waiting.close(info, reward))
        progress(env.num_envs)
    return Closed.join(parts)


def fit(
    data: Closed,
    rng: np.random.Generator,
    *,
    epochs: int = 6,
    batch: int = 4096,
    learning_rate: float = 3e-3,
    log: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Forecast:
    """Fit the head to closed decisions; functions count by the square root of their events."""
    net = Forecast()
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
    observation = torch.from_numpy(data.observation)
    likelihood = torch.from_numpy(np.maximum(data.likelihood, 0.0).astype(np.float32))
    weight = torch.from_numpy((data.weight / data.weight.mean()).astype(np.float32))
    for epoch in range(epochs):
        total = 0.0
        order = torch.from_numpy(rng.permutation(len(observation)))
        for rows in order.split(batch):
            mixed = (net(observation[rows]) * likelihood[rows]).sum(dim=1)
            loss = -(weight[rows] * torch.log(mixed + FLOOR)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        log(epoch, total / len(observation))
    return net
