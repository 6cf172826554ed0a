"""The latency target as a constraint: one Lagrange multiplier a row.

Shapes: B rows.  Units: seconds of cluster time; the multiplier is in cold starts a late request.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError

Floats = NDArray[np.float64]
MEMORY_S = 3600.0
"""The share of late requests is taken over the last hour (exponentially weighted)."""
LARGEST = 100.0
"""Ceiling of the multiplier."""


class SloMultipliers:
    """Dual ascent: a multiplier grows while more requests are late than the target allows.

    Args:
        rows: B.
        target: range that an episode's target (share of requests in time) is drawn from.
        rate: growth an hour of cluster time when every request is late beyond the target.
    """

    def __init__(self, rows: int, target: tuple[float, float], rate: float) -> None:
        lo, hi = target
        if not 0.0 <= lo <= hi <= 1.0:
            raise SpecError("slo_target", target, "(low, high) with 0 <= low <= high <= 1")
        if not (np.isfinite(rate) and rate >= 0.0):
            raise SpecError("slo_rate", rate, "finite, >= 0")
        self.range = (float(lo), float(hi))
        self.rate = rate
        self.state = np.zeros((rows, 3))
        """Target, multiplier, recent share of late requests. Shape: (B, 3)."""
        self._late = np.zeros(rows)
        self._requests = np.zeros(rows)

    def forget(self) -> None:
        """Start learning afresh (a new seed)."""
        self.state[:] = 0.0

    def start(self, k: int, rng: np.random.Generator) -> None:
        """Draw the target of row k's next episode; its multiplier is carried over."""
        self.state[k, 0] = rng.uniform(*self.range)
        self.state[k, 2] = self._late[k] = self._requests[k] = 0.0

    def copy_row(self, source: int, target: int) -> None:
        """Put a row's books into the state of another one's."""
        for books in (self.state, self._late, self._requests):
            books[target] = books[source]

    def excess(self, late: Floats, requests: Floats) -> Floats:
        """Late requests beyond the number that the target allows. Shapes: (B,)."""
        over: Floats = late - (1.0 - self.state[:, 0]) * requests
        return over

    def learn(self, late: Floats, requests: Floats, hours: Floats) -> None:
        """Move the multipliers after a tick of `hours` (in uncompressed time). Shapes: (B,)."""
        kept = np.exp(-hours * 3600.0 / MEMORY_S)
        self._late = self._late * kept + late
        self._requests = self._requests * kept + requests
        share = np.minimum(self._late / np.maximum(self._requests, 1.0), 1.0)
        step = self.rate * hours * (share - (1.0 - self.state[:, 0]))
        step[self._requests == 0.0] = 0.0
        self.state[:, 1] = np.clip(self.state[:, 1] + step, 0.0, LARGEST)
        self.state[:, 2] = share
