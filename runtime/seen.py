"""Whether an observation is like those of training: the share of columns outside their range.

Shapes: N observations, K columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError

SLACK = 1e-6
"""A range of stored float32 numbers does not exclude its own ends."""


class Seen:
    """The range of every column in training.

    Raises:
        SpecError: `low` and `high` are not two lists of numbers of one length.
    """

    def __init__(self, low: Any, high: Any) -> None:
        try:
            self.low, self.high = np.array(low, np.float64), np.array(high, np.float64)
        except (TypeError, ValueError) as error:
            raise SpecError("bundle.seen", str(error), "low and high: lists of numbers") from error
        fits = self.low.ndim == 1 and self.low.shape == self.high.shape
        if not fits or not (self.low <= self.high).all():
            raise SpecError("bundle.seen", self.low.shape, "low <= high for every column")

    @staticmethod
    def of(policy: object) -> Seen | None:
        """Return what a policy's manifest says, or None if it has none or says nothing."""
        manifest = getattr(policy, "manifest", None)
        seen = manifest.get("seen") if isinstance(manifest, Mapping) else None
        return Seen(seen["low"], seen["high"]) if isinstance(seen, Mapping) else None

    def outside(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        """Share of each observation's columns out of range; 0 if of another width. Shape: (N,)"""
        if observation.shape[1] != len(self.low):
            return np.zeros(len(observation))
        margin = SLACK * (1.0 + np.abs(self.high - self.low))
        within = (observation >= self.low - margin) & (observation <= self.high + margin)
        share: NDArray[np.float64] = 1.0 - within.mean(axis=1)  # NaN lies nowhere
        return share
