"""ServerlessLLM (Fu et al., OSDI 2024): what start-up costs decides where weights lie and start.

Rule: an instance starts where its estimated start-up is shortest (rule `soonest`: from host memory,
else behind the loads of the disk link, section 6.1); idle it stays for `periods` of its own loading
time (as recalled, the paper's evaluation keeps it for one). Host memory fetches what saves most:
weights by calls x (start-up from disk - from host memory) / GiB, down to where it is full, and what
saves least leaves it first. The placement follows the paper; the order of the copies is ours: the
paper leaves that to least-recently-used. Migration of running inferences is not here.

Shapes: B rows, F functions.  Units: seconds, GiB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Floats, Snapshot
from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.features import RATE_WINDOWS_S
from stoker.envs.cluster.spec import Cluster, Rules

EVICTIONS = ("lru", "greedy_dual", "freq")


class ServerlessLlm(Policy):
    """Residency by start-up time.

    Args:
        periods: loading times for which an idle instance stays.
        window_s: of the rate of calls: one of those that are remembered.
        eviction: which instance leaves a GPU for another.
        tick_s: seconds between two looks at host memory.

    Raises:
        SpecError: names the argument.
    """

    def __init__(
        self,
        periods: float = 1.0,
        window_s: float = 3600.0,
        eviction: str = "lru",
        tick_s: float = 60.0,
    ) -> None:
        require(periods >= 0.0, "policy.periods", periods, ">= 0")
        if window_s not in RATE_WINDOWS_S:
            raise SpecError("policy.window_s", window_s, " | ".join(map(str, RATE_WINDOWS_S)))
        require(eviction in EVICTIONS, "policy.eviction", eviction, " | ".join(EVICTIONS))
        require(0.0 < tick_s < np.inf, "policy.tick_s", tick_s, "a finite time > 0")
        self.periods, self.tick_s = periods, tick_s
        self._window = RATE_WINDOWS_S.index(window_s)
        self.rules = Rules(placement="soonest", eviction=eviction, host_eviction="score")

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Work out what each tier saves."""
        of = cluster.columns
        self._gib = of.weights_gib
        self._disk_s = np.min([n.loads_s(of) for n in cluster.all_nodes], axis=0)
        hosts = [n for n in cluster.all_nodes if n.host_gib > 0.0]
        saved = [n.loads_s(of) - n.loads_s(of, "host") for n in hosts]
        self._saved_s = np.max(saved, axis=0) if hosts else np.zeros(len(self._gib))
        self._room_gib = sum(n.host_gib for n in hosts)

    def decide(self, snapshot: Snapshot) -> Decision:
        """Order the copies by what they save, and fetch those that fit."""
        per_gib = self._saved_s / np.maximum(self._gib, 1e-9) * (self._gib > 0.0)
        score = snapshot.rate_hz[..., self._window] * per_gib
        held = self._fit(score) & (score > 0.0)
        stay_s = self.periods * self._disk_s
        return Decision(
            keep_alive_s=np.broadcast_to(stay_s, score.shape).copy(),
            host_keep_alive_s=np.full(score.shape, np.inf),
            prewarm_host=held.astype(np.int32),
            host_eviction_score=score,
        )

    def _fit(self, score: Floats) -> NDArray[np.bool_]:
        """Which copies fit, the highest score first; what does not fit is passed over. (B, F)"""
        order = np.argsort(-score, axis=1, kind="stable")
        held, left = np.zeros(score.shape, np.bool_), np.full(len(score), self._room_gib)
        rows = np.arange(len(score))
        for place in order.T:
            fits = self._gib[place] <= left
            held[rows, place] = fits
            left = left - np.where(fits, self._gib[place], 0.0)
        return held
