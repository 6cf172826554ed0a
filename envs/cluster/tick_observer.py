"""What a learned policy sees at a tick, wherever it decides: the observation of the cluster view.

The environments with ticks train on it; `simulate` and the live engine hand it to policies that
ask for it.

Shapes: B rows, S slots, C features of the cluster.  Units: seconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.observe_all import DAY_BINS, SLOT, TICK, C, observe_ticks
from stoker.envs.cluster.slo import SloMultipliers

HOUR_BINS = DAY_BINS / 24.0
"""An hour in first bins of the gap histograms, which shrink with compressed time."""
LATE, REQUESTS = TICK.index("late"), TICK.index("requests")


def by_function(observation: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every slot with the columns of its cluster. Shapes: (B, S * SLOT + C) -> (B * S, SLOT + C)"""
    slots = observation[:, :-C].reshape(len(observation), -1, SLOT)
    shared = np.broadcast_to(observation[:, None, -C:], (*slots.shape[:2], C))
    return np.concatenate([slots, shared], axis=2).reshape(-1, SLOT + C)


class TickObserver:
    """Observes all rows of a simulation, and keeps their recent share of late requests.

    Args:
        rows: B.
        slots: S.
        slo_target: share of the requests that should be in time, 0..1.
    """

    def __init__(self, rows: int, slots: int, slo_target: float) -> None:
        if not 0.0 <= slo_target <= 1.0:
            raise SpecError("policy.slo_target", slo_target, ">= 0, <= 1")
        self.slots = slots
        self.slo = SloMultipliers(rows, (slo_target, slo_target), 0.0)
        self.slo.state[:, 0] = slo_target
        self.spent = np.zeros((rows, slots, len(TICK)))
        """What each function has cost in the tick that ended last, see TICK. Shape: (B, S, 9)"""
        self._last_s = np.zeros(rows)

    def see(self, rows: NDArray[np.void]) -> NDArray[np.float32]:
        """Describe the rows and begin a new tick. Shapes: (B,) -> (B, S * SLOT + C)"""
        seen = np.zeros((len(rows), self.slots * SLOT + C), np.float32)
        hours = (rows["now"] - self._last_s) / (rows["first_bin"] * HOUR_BINS)
        self._last_s = rows["now"].copy()
        which = np.arange(len(rows))
        observe_ticks(rows, which, self.slots, seen, self.spent, self.slo.state)
        ended = self.spent.sum(axis=1)
        self.slo.learn(ended[:, LATE], ended[:, REQUESTS], hours)
        return seen
