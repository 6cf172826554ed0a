"""Late and lost observations: what the agent sees at a tick is an older sample.

As telemetry.py has it for policies: a sample is taken at every tick; it is lost with its row's
chance, else it arrives once it is old enough. The first sample of an episode arrives at once and
stands until another has arrived. Rewards, masks and `final_obs` are of the present.

Shapes: B rows, X columns.  Units: seconds.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.faults import TELEMETRY_STREAM, Faults

Floats = NDArray[np.float64]
Observation = NDArray[np.float32]


class LateObservations:
    """The samples on their way to the agents of B rows.

    Args:
        rows: B.
        width: X.
    """

    def __init__(self, rows: int, width: int) -> None:
        self._seen = np.zeros((rows, width), np.float32)
        self._delay_s, self._loss = np.zeros(rows), np.zeros(rows)
        self._first = np.ones(rows, np.bool_)
        self._rng = [np.random.default_rng(0)] * rows
        self._samples: deque[tuple[Floats, Observation, NDArray[np.bool_]]] = deque()

    def start(self, k: int, faults: Faults) -> None:
        """Begin an episode of row k: what was on its way is forgotten."""
        self._delay_s[k], self._loss[k] = faults.telemetry_delay_s, faults.telemetry_loss
        self._rng[k] = np.random.default_rng([faults.seed, TELEMETRY_STREAM])
        self._first[k] = True
        for _, _, coming in self._samples:
            coming[k] = False

    def see(self, observation: Observation, now_s: Floats) -> Observation:
        """Take a sample and return what has reached the agents. Shapes: (B, X), (B,) -> (B, X)"""
        drawn = np.array([rng.random() for rng in self._rng])
        coming = (drawn >= self._loss) & ~self._first
        self._seen[self._first] = observation[self._first]
        self._first[:] = False
        self._samples.append((now_s.copy(), observation.copy(), coming))
        for taken_s, sample, coming in self._samples:
            arrived = coming & (now_s - taken_s >= self._delay_s)
            self._seen[arrived] = sample[arrived]
            coming[arrived] = False
        while self._samples and not self._samples[0][2].any():
            self._samples.popleft()
        return self._seen.copy()
