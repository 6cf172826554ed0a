"""A policy that decides on batches: the rules that are opponents in `stoker/Batching-v0`.

    class RunAll(BatchPolicy):
        '''Run whatever waits, as soon as the GPU is free.'''

        def act(self, due):
            return run_up_to(due, due.max_batch)

Shapes: B rows, W places of a queue, Z batch sizes.  Units: seconds; costs in requests.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stoker.envs.batching import BatchingFunctionRows
from stoker.envs.batching_core import Observation
from stoker.envs.cluster.batch_due import Due
from stoker.envs.cluster.batching import DROP, RUN, WAIT

__all__ = ["DROP", "WAIT", "BatchPolicy", "Due", "play", "run_up_to"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class BatchPolicy:
    """Decides for the function that each row asks about, from exact figures."""

    def reset(self, rows: int, functions: int) -> None:
        """Forget everything and prepare for `rows` rows of at most `functions` functions."""

    def forget(self, row: int) -> None:
        """Forget one row, whose episode is over."""

    def decide(self, observation: Observation, due: Due) -> Ints:
        """Return actions of the function view. Shapes: (B, K) -> (B,)"""
        return self.act(due)

    def act(self, due: Due) -> Ints:
        """Likewise, without the observation. Shape: (B,)"""
        raise AttributeError(f"{type(self).__name__} must define act(due)")


def run_up_to(due: Due, most: Ints) -> Ints:
    """Return the action that runs the largest batch of at most `most` requests. Shape: (B,)

    Where `most` takes all that wait, so does the batch; else it is a size that there is.
    """
    room = np.minimum(due.queued, due.max_batch)
    fits = np.searchsorted(due.sizes, np.maximum(most, due.sizes[0]), side="right") - 1
    everything = np.minimum(np.searchsorted(due.sizes, room), len(due.sizes) - 1)
    action: Ints = RUN + np.where(most >= room, everything, np.minimum(fits, everything))
    return action


def play(env: BatchingFunctionRows, policy: BatchPolicy, episodes: int, seed: int) -> Floats:
    """Play so many episodes in every row; return the mean cost of a request in each row. (B,)"""
    observation, _ = env.reset(seed=seed)
    policy.reset(env.num_envs, env.slots)
    left = np.full(env.num_envs, episodes)
    cost, requests = np.zeros(env.num_envs), np.zeros(env.num_envs)
    while left.any():
        action = policy.decide(observation, env.due)
        observation, rewards, _, over, info = env.step(action)
        cost -= np.where(left > 0, rewards, 0.0)
        requests += np.where(left > 0, info["requests"], 0)
        for k in np.flatnonzero(over).tolist():
            policy.forget(k)
        left -= over & (left > 0)
    return cost / np.maximum(requests, 1.0)
