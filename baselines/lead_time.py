"""Lead time: be ready when a request is likely to come before a load begun later would be done.

Rule: a function's lead is its start-up time plus a tick: what is not begun now is ready no sooner.
Where the chance of a call within the lead is at least `warm` it has an instance, and as many as
calls overlap on average and `spread` standard deviations more; below `keep` idle ones leave.
Ours, not published: IceBreaker's question (baselines/icebreaker.py) with the horizon that a load
needs in place of the next minute. The chance comes from the function's own gap histogram given its
age, and from its rate, which counts for a twentieth of them.

Under pressure the instance leaves whose chance x start-up time / size is least.

Shapes: B rows, F functions.  Units: seconds, GiB.
"""

from __future__ import annotations

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Floats, Ints, Snapshot
from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.features import RATE_WINDOWS_S, UNIT_EDGE
from stoker.envs.cluster.spec import Cluster, Rules

PRIOR = 0.05
"""Share of the gaps seen that the opinion of the rate counts for."""


class LeadTime(Policy):
    """Load ahead of what is likely within a load's time.

    Args:
        warm: chance of a call within the lead from which an instance is loaded.
        keep: chance below which idle instances leave.
        spread: standard deviations of the overlapping calls, beyond their mean.
        window_s: of the rate: one of those that are remembered.
        tick_s: seconds between decisions.

    Raises:
        SpecError: names the argument.
    """

    rules = Rules(eviction="score")

    def __init__(
        self,
        warm: float = 0.5,
        keep: float = 0.1,
        spread: float = 0.0,
        window_s: float = 600.0,
        tick_s: float = 60.0,
    ) -> None:
        require(0.0 <= warm <= 1.0, "policy.warm", warm, "a chance in 0..1")
        require(0.0 <= keep <= 1.0, "policy.keep", keep, "a chance in 0..1")
        require(spread >= 0.0, "policy.spread", spread, ">= 0")
        if window_s not in RATE_WINDOWS_S:
            raise SpecError("policy.window_s", window_s, " | ".join(map(str, RATE_WINDOWS_S)))
        require(0.0 < tick_s < np.inf, "policy.tick_s", tick_s, "a finite time > 0")
        self.warm, self.keep, self.spread, self.tick_s = warm, keep, spread, tick_s
        self._window = RATE_WINDOWS_S.index(window_s)

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Learn what a load and a call take."""
        of = cluster.columns
        self._edges_s = cluster.first_bin_s * UNIT_EDGE
        self._load_s = np.min([n.loads_s(of) for n in cluster.all_nodes], axis=0)
        self._run_s = of.alpha_s + of.beta_s
        self._slots = of.concurrency * of.max_batch
        self._worth = self._load_s / np.maximum(of.device_gib, 1e-6)

    def decide(self, snapshot: Snapshot) -> Decision:
        """Hold what is likely to be called."""
        chance = self.chance(snapshot)
        return Decision(
            keep_alive_s=np.where(chance >= self.keep, np.inf, 0.0),
            prewarm=self.floors(snapshot, chance),
            eviction_score=chance * self._worth,
        )

    def floors(self, snapshot: Snapshot, chance: Floats) -> Ints:
        """Instances to be ready or loading. Shape: (B, F)"""
        overlap = snapshot.rate_hz[..., self._window] * self._run_s / self._slots
        wanted = np.ceil(overlap + self.spread * np.sqrt(overlap))
        floors: Ints = np.where(chance >= self.warm, np.maximum(wanted, 1.0), 0.0).astype(np.int32)
        return floors

    def chance(self, snapshot: Snapshot) -> Floats:
        """Chance of a call within the lead; 1 where one is there. Shape: (B, F)"""
        lead_s = self._load_s + self.tick_s
        idle_s = snapshot.now_s[:, None] - np.maximum(snapshot.last_idle_s, 0.0)
        gaps = snapshot.gap_histogram.astype(np.float64)
        longer = self._above(gaps, idle_s)
        soon = longer - self._above(gaps, idle_s + lead_s)
        rated = -np.expm1(-snapshot.rate_hz[..., self._window] * lead_s)
        known = gaps.sum(axis=-1)
        scale = np.where(known > 0.0, 1.0 / np.maximum(known, 1e-12), 0.0)
        # The histogram counts in units that grow; its shares alone have a meaning.
        chance = (soon * scale + PRIOR * rated) / (longer * scale + PRIOR)
        there = (snapshot.busy > 0) | (snapshot.queued > 0)
        return np.where(there, 1.0, np.where(snapshot.arrivals > 0, chance, 0.0))

    def _above(self, gaps: Floats, age_s: Floats) -> Floats:
        """Mass of gaps longer than an age, that of a bin spread evenly. Shapes: (B, F)"""
        low, high = self._edges_s[:-1], self._edges_s[1:]
        part = np.clip((high - age_s[..., None]) / (high - low), 0.0, 1.0)
        mass: Floats = (gaps * part).sum(axis=-1)
        return mass
