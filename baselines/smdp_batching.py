"""The optimal online batching policy under Poisson arrivals, by value iteration.

Source: Xu, Sun, Zhou, Niu, "SMDP-based dynamic batching for efficient inference on GPU-based
platforms", ICC 2023 (arXiv 2301.12865): a semi-Markov decision process whose state is the queue.
Ours: costs are those of `stoker/Batching-v0` without lateness and refusal, which a queue's length
does not tell; the cost is the average a second.

At a decision s requests wait and the GPU is idle. To wait takes until the next arrival, 1/rate on
average, and costs s times that; to run b takes p(b) and costs its GPU time, and waiting of those
that are left and of those that come. With eta below every mean time tau, value iteration on

    v(s) <- min over a of c(s,a) / tau(s,a) + (eta / tau(s,a)) E v(s') + (1 - eta / tau(s,a)) v(s)

(Schweitzer's transformation) brings the differences between two rounds together at the least
average cost.

Shapes: Q + 1 lengths of the queue, Z batch sizes.  Units: seconds; costs in requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.batch_policy import WAIT, BatchPolicy, Due, run_up_to
from stoker.envs.cluster.errors import require

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PoissonBatching:
    """One model on one GPU under Poisson arrivals."""

    rate_hz: float
    alpha_s: float
    beta_s: float
    sizes: Sequence[int]
    slo_s: float = 1.0
    """Unit of the costs in time."""
    wait_cost: float = 1.0
    """Of a request that waits for `slo_s`."""
    busy_cost: float = 0.0
    """Of the GPU at work for `slo_s`."""
    longest: int = 100
    """Q; what comes beyond it is left out."""

    def __post_init__(self) -> None:
        most = self.sizes[-1]
        use = self.rate_hz * (self.alpha_s + self.beta_s * most) / most
        require(0.0 < use < 1.0, "rate_hz", self.rate_hz, "> 0, below the GPU's best throughput")

    def model(self) -> tuple[Floats, Floats, Floats]:
        """Costs, mean times and next states of waiting (0) and of each size.

        Shapes: (1 + Z, Q + 1), (1 + Z, Q + 1), (1 + Z, Q + 1, Q + 1); a size is as good as any
        smaller one that takes the whole queue.
        """
        q = np.arange(self.longest + 1)
        waiting, busy = self.wait_cost / self.slo_s, self.busy_cost / self.slo_s
        shape = (1 + len(self.sizes), len(q))
        cost, time_s = np.full(shape, np.inf), np.ones(shape)
        move = np.zeros((*shape, len(q)))
        time_s[0], cost[0] = 1.0 / self.rate_hz, waiting * q / self.rate_hz
        cost[0, -1] = np.inf  # a full queue must be served
        move[0, q, np.minimum(q + 1, self.longest)] = 1.0
        for z, size in enumerate(self.sizes, start=1):
            for s in q[1:]:
                n = min(size, int(s))
                takes = self.alpha_s + self.beta_s * n
                came = self.rate_hz * takes
                time_s[z, s] = takes
                cost[z, s] = busy * takes + waiting * takes * (s - n + came / 2.0)
                move[z, s, s - n :] = _poisson(came, self.longest - s + n)
        return cost, time_s, move

    def solve(self, tolerance: float = 1e-9) -> tuple[float, Ints]:
        """Find the least average cost a second, and the batch to run for each length of the queue.

        Shape of the latter: (Q + 1,); 0 = wait.
        """
        cost, time_s, move = self.model()
        eta = 0.999 * float(time_s.min())
        value = np.zeros(self.longest + 1)
        while True:
            q = cost / time_s + eta / time_s * (move @ value - value) + value
            new = q.min(axis=0)
            gain = new - value
            if np.ptp(gain) <= tolerance * max(abs(float(gain.mean())), 1e-12):
                break
            value = new - new[0]
        best = q.argmin(axis=0)
        runs = np.minimum(np.array([0, *self.sizes])[best], np.arange(self.longest + 1))
        return float(gain.mean()), runs

    def average_cost(self, runs: Ints) -> float:
        """Average cost a second of running `runs[s]` (a size, 0 = wait) where s wait."""
        cost, time_s, move = self.model()
        q = np.arange(self.longest + 1)
        sizes = np.array(self.sizes)
        action = np.where(runs > 0, 1 + np.searchsorted(sizes, runs), 0)
        # stationary share of decisions, each with its mean cost and time
        chain = move[action, q]
        system = np.vstack([chain.T - np.eye(len(q)), np.ones(len(q))])
        share = np.linalg.lstsq(system, np.append(np.zeros(len(q)), 1.0), rcond=None)[0]
        reached = share > 1e-14
        costs = share[reached] @ cost[action, q][reached]
        return float(costs / (share @ time_s[action, q]))


class SmdpBatching(BatchPolicy):
    """Run what the tables of the optimal policy say.

    Args:
        problem: what the policy is optimal for.
    """

    def __init__(self, problem: PoissonBatching) -> None:
        self.average_cost, self.runs = problem.solve()

    def act(self, due: Due) -> Ints:
        """Look the length of the queue up."""
        runs = self.runs[np.minimum(due.queued, len(self.runs) - 1)]
        return np.where(runs > 0, run_up_to(due, runs), WAIT)


def _poisson(mean: float, most: int) -> Floats:
    """Probability of 0..most arrivals; `most` stands for more, too. Shape: (most + 1,)"""
    n = np.arange(most + 1)
    log = n * math.log(mean) - mean - np.cumsum(np.log(np.maximum(n, 1)))
    share: Floats = np.exp(log)
    share[-1] += max(1.0 - float(share.sum()), 0.0)
    return share
