"""AlpaServe: static placement for statistical multiplexing (Li et al., OSDI 2023).

Rule: greedy. The model with most unserved requests gets one more replica on the least loaded GPU
with memory for it, until none is unserved or nothing fits; what is not placed has no place. Batches
are first come, first served, and shared out evenly among the replicas.
Follows the public code's fast greedy (most unserved model, group with fewest requests), with three
differences: a group is one GPU (no model parallelism here), unserved requests come from a fluid
estimate (a GPU serves 1 / load of what is sent to it) instead of a simulation, and nothing is
dropped for a predicted miss. Rates are those seen: placed anew every `tick_s`, with replicas for
models that nobody has called yet where memory is left.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import require
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster.targets import Targets

Floats = NDArray[np.float64]
LATELY = 2
"""Column of the rate over 600 s in `Snapshot.rate_hz`."""
LEAST_HZ = 1e-9
"""Rate that a model without calls counts with."""


class AlpaServe(Policy):
    """Place replicas greedily by the rates seen, and keep to the placement.

    Args:
        tick_s: seconds between two placements.
    """

    rules = Rules(eviction="lru")

    def __init__(self, tick_s: float = 300.0) -> None:
        require(0.0 < tick_s < math.inf, "policy.tick_s", tick_s, "a time > 0")
        self.tick_s = tick_s

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Learn sizes and service times."""
        gpus, functions = cluster.gpus, cluster.functions
        for f in functions:
            require(f.gpus == 1, f"function[{f.name}].gpus", f.gpus, "1 under AlpaServe here")
        self._memory = np.array([g.memory_gib for g in gpus])
        self._gib = np.array([f.device_gib for f in functions])
        times = [[f.service(g.kind) for g in gpus] for f in functions]
        batch = np.array([[f.max_batch] for f in functions])
        alpha_s, beta_s = np.moveaxis(np.array(times, np.float64), -1, 0)
        self._work_s = (alpha_s + beta_s * batch) / batch
        self._rows = rows

    def decide(self, snapshot: Snapshot) -> Decision:
        """Place by the rates of the last ten minutes."""
        here = self.place(np.maximum(snapshot.rate_hz[..., LATELY], LEAST_HZ))
        row, function, gpu = np.nonzero(here)
        one = np.ones(len(row), np.int64)
        return Decision(
            keep_alive_s=np.full(snapshot.idle.shape, math.inf),
            targets=Targets(row, function, gpu, min=one, max=one, weight=1.0),
        )

    def place(self, rate_hz: Floats) -> NDArray[np.bool_]:
        """Which models have a replica on which GPU. Shape: (B, F) -> (B, F, G)"""
        b = np.arange(len(rate_hz))
        here = np.zeros((*rate_hz.shape, len(self._memory)), bool)
        free = np.tile(self._memory, (len(b), 1))
        while True:
            unserved, load = self._estimate(rate_hz, here)
            fits = ~here & (self._gib[:, None] <= free[:, None, :] + 1e-9)
            asks = np.where(fits.any(axis=2) & (unserved > 0.0), unserved, 0.0)
            f = asks.argmax(axis=1)
            more = asks[b, f] > 0.0
            if not more.any():
                return here
            g = np.where(fits[b, f], load, np.inf).argmin(axis=1)
            here[b[more], f[more], g[more]] = True
            free[b[more], g[more]] -= self._gib[f[more]]

    def _estimate(self, rate_hz: Floats, here: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Unserved requests a second, and each GPU's load. Shape: (B, F), (B, G)"""
        sent = rate_hz[..., None] * here / np.maximum(here.sum(axis=2, keepdims=True), 1)
        load = (sent * self._work_s).sum(axis=1)
        served = sent / np.maximum(load, 1.0)[:, None, :]
        left = rate_hz - served.sum(axis=2)
        return np.where(left > 1e-12 * rate_hz, left, 0.0), load
