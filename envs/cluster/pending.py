"""The decisions that rows wait for.

Shapes: B rows, K features, E experts.  Units: seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.idle import TERMS
from stoker.envs.cluster.observe import K
from stoker.envs.cluster.tables import EXPERTS, NONE


@dataclass(frozen=True)
class Pending:
    """The decisions that are due, and the books of the ones that they close."""

    observation: NDArray[np.float32]
    """Shape: (B, K); see observe.py"""
    terms: NDArray[np.float64]
    """Costs since the function's last decision, by term; see idle.py. Shape: (B, 6)"""
    closes: NDArray[np.int64]
    """Number, within its row, of the decision that closes; -1 = none. Shape: (B,)"""
    likelihood: NDArray[np.float64]
    """Probability that each expert gave to the gap that has ended. Shape: (B, E)"""
    scale: NDArray[np.float64]
    """Cost of a cold start of the function, in seconds of waiting. Shape: (B,)"""
    function: NDArray[np.int64]
    """The function that has become idle. Shape: (B,)"""
    now_s: NDArray[np.float64]
    """When. Shape: (B,)"""

    @classmethod
    def empty(cls, rows: int) -> Pending:
        """Allocate for `rows` rows."""
        return cls(
            np.zeros((rows, K), np.float32),
            np.zeros((rows, len(TERMS))),
            np.full(rows, -1),
            np.zeros((rows, EXPERTS)),
            np.ones(rows),
            np.full(rows, NONE),
            np.zeros(rows),
        )

    @classmethod
    def unfilled(cls, rows: int) -> Pending:
        """Allocate for `rows` rows, all of which will be due before anything is read."""
        return cls(
            np.empty((rows, K), np.float32),
            np.empty((rows, len(TERMS))),
            np.empty(rows, np.int64),
            np.empty((rows, EXPERTS)),
            np.empty(rows),
            np.empty(rows, np.int64),
            np.empty(rows),
        )

    @property
    def books(self) -> tuple[NDArray[Any], ...]:
        """As compiled code takes them."""
        return (
            self.observation, self.terms, self.closes, self.likelihood, self.scale, self.function,
            self.now_s,
        )  # fmt: skip
