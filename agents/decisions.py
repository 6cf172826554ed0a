"""Decisions that wait for their reward: at most one a function in every row.

Shapes: B rows, F functions, K features, E experts, N closed decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.observe import K
from stoker.envs.function_view import FunctionVectorEnv


@dataclass(frozen=True)
class Closed:
    """Decisions whose reward is known."""

    observation: NDArray[np.float32]
    """What the policy saw. Shape: (N, K)"""
    action: NDArray[np.int64]
    """Shape: (N,)"""
    log_prob: NDArray[np.float32]
    """Under the policy that took it. Shape: (N,)"""
    reward: NDArray[np.float64]
    """Shape: (N,)"""
    likelihood: NDArray[np.float64]
    """Probability that each expert gave to the gap. Shape: (N, E)"""
    weight: NDArray[np.float64]
    """One over the square root of the function's decisions so far. Shape: (N,)"""

    @classmethod
    def join(cls, parts: list[Closed]) -> Closed:
        """Concatenate."""
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in cls.__annotations__))


class OpenDecisions:
    """The last decision of every function of every row, until the event that closes it."""

    def __init__(self, env: FunctionVectorEnv) -> None:
        shape = (env.num_envs, env.problems.functions)
        self._observation = np.zeros((*shape, K), np.float32)
        self._action = np.zeros(shape, np.int64)
        self._log_prob = np.zeros(shape, np.float32)
        self._count = np.zeros(shape, np.int64)
        self._rows = np.arange(env.num_envs)

    def open(
        self,
        function: NDArray[np.int64],
        observation: NDArray[np.float32],
        action: NDArray[np.int64],
        log_prob: NDArray[np.float32],
    ) -> None:
        """Note the decisions just taken. Shapes: (B,), (B, K), (B,), (B,)"""
        at = (self._rows, function)
        self._observation[at], self._action[at], self._log_prob[at] = observation, action, log_prob
        self._count[at] += 1

    def close(self, info: dict[str, Any], reward: NDArray[np.float64]) -> Closed:
        """Return the decisions that the present events close, and forget rows that ended."""
        if "summary" in info:
            self._count[info["_final_obs"]] = 0
        known = (info["closes"] >= 0) & (self._count[self._rows, info["function"]] > 0)
        at = (self._rows[known], info["function"][known])
        return Closed(
            self._observation[at],
            self._action[at],
            self._log_prob[at],
            reward[known],
            info["likelihood"][known],
            1.0 / np.sqrt(self._count[at]),
        )
