"""The cross-entropy method on a linear residual (Rubinstein 1999; 26 numbers).

Every candidate replays the same whole problems in compiled code, so what one function's decision
does to another - loads queueing for the same links, memory taken - is in the objective as it is.

Shapes: P candidates, Q problems, T = 26 weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stoker.envs.cluster.observe import SCALARS
from stoker.envs.cluster.rules.residual import LIMIT
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster.tables import EXPERTS
from stoker.envs.workload import Workload

SCALES = len(SCALARS)
CONSTANT = 1e-3
"""A feature that varies less than this is constant."""
Problem = tuple[Cluster, Workload]


class LinearResidual(nn.Module):
    """The policy as deployed: own-history forecast, linear log-multiplier, heuristic plan."""

    def __init__(self, theta: NDArray[np.float64], shrink: float = 1.0) -> None:
        super().__init__()
        self.shrink = shrink
        self.register_buffer("weight", torch.tensor(theta[:-1], dtype=torch.float32))
        self.register_buffer("bias", torch.tensor(float(theta[-1])))
        own = torch.zeros(EXPERTS)
        own[0] = 1.0
        self.register_buffer("own", own)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mix (N, E), multiplier (N,) and variant (N,)."""
        zeros = 0.0 * observation[:, 0]
        total = self.shrink * (observation[:, :SCALES] @ self.weight + self.bias)
        multiplier = torch.exp(total.clamp(-LIMIT, LIMIT))
        return zeros.unsqueeze(1) + self.own, multiplier, zeros.to(torch.int64)


def costs(
    thetas: NDArray[np.float64],
    problems: Sequence[Problem],
    rules: Rules,
    *,
    warmup_s: float = 0.0,
    threads: int = 2,
) -> NDArray[np.float64]:
    """Total dollars of every candidate on every problem. Shapes: (P, T) -> (P, Q)"""
    rows = [problem for _ in thetas for problem in problems]
    sim = Simulation(
        [c for c, _ in rows], [w for _, w in rows], rules, warmup_s=warmup_s, threads=threads
    )
    sim.state.theta = [theta for theta in thetas for _ in problems]
    sim.state.point()
    sim.run()
    total = [sim.result(k).bill.total_usd for k in range(len(rows))]
    return np.reshape(total, (len(thetas), len(problems)))


def search(
    sample: Callable[[np.random.Generator], Problem],
    observations: NDArray[np.float32],
    rules: Rules,
    rng: np.random.Generator,
    *,
    generations: int = 15,
    population: int = 24,
    elites: int = 6,
    problems: int = 6,
    sigma: float = 0.3,
    warmup_s: float = 0.0,
    log: Callable[[int, float, float], None] = lambda generation, best, mean: None,
) -> tuple[NDArray[np.float64], int]:
    """Search the weights on problems drawn anew in every generation; zero is always a candidate.

    Args:
        sample: draws a problem.
        observations: to scale the features by. Shape: (N, K)
        rules: the base heuristic.
        rng: of problems and candidates.
        generations: of the search.
        population: candidates a generation.
        elites: the best of them, which make the next.
        problems: replayed by every candidate.
        sigma: initial spread, in standard deviations of each feature.
        warmup_s: left out of the waiting figures.
        log: called with generation, best and mean log cost relative to the heuristic.

    Returns:
        Weights on the raw features, and the bias (shape (T,)); requests simulated.
    """
    requests = 0
    mean, spread = observations[:, :SCALES].mean(axis=0), observations[:, :SCALES].std(axis=0)
    spread[spread < CONSTANT] = np.inf  # a constant feature gets no weight
    center, width = np.zeros(SCALES + 1), np.full(SCALES + 1, sigma)
    for generation in range(generations):
        drawn = center + width * rng.standard_normal((population, SCALES + 1))
        drawn[0], drawn[1] = 0.0, center
        raw = np.stack([_raw(theta, mean, spread) for theta in drawn])
        replayed = [sample(rng) for _ in range(problems)]
        requests += population * sum(len(workload) for _, workload in replayed)
        dollars = costs(raw, replayed, rules, warmup_s=warmup_s)
        score = np.log(dollars / dollars[0]).mean(axis=1)
        best = drawn[np.argsort(score, kind="stable")[:elites]]
        center = 0.3 * center + 0.7 * best.mean(axis=0)
        width = np.maximum(0.3 * width + 0.7 * best.std(axis=0), 0.02)
        log(generation, float(score.min()), float(score[1]))
    return _raw(center, mean, spread), requests


def _raw(
    theta: NDArray[np.float64], mean: NDArray[np.float32], spread: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Weights on standardised features as weights on raw ones. Shape: (T,)"""
    weight = theta[:-1] / spread
    return np.append(weight, theta[-1] - float(weight @ mean))
