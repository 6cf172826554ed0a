"""RainbowCake (Yu et al., ASPLOS 2024): a container's layers are kept for a lifetime each.

Rule: an idle instance stays on the device (user), then its process stays parked (lang), then its
empty sandbox (bare). A layer's lifetime is the 0.8 quantile of the exponential gap seen by those
who can use it - the function, all of its runtime, everyone -, at most alpha / (1 - alpha) x its
start-up time over its MiB, and 60 s where the quantile is below that. The function is loaded again
when its own quantile has passed.

Follows the public code (IntelliSys-Lab/RainbowCake-ASPLOS24, ContainerPool, Distribution, History;
read), as envs/cluster/startup/rainbowcake.py does, with the 60 s that the closed form leaves out.
Differences: nothing is rounded to whole seconds; start-up times and sizes are those of the spec,
not running means. It decides at ticks: calls between two ticks beyond the last one are taken as
evenly spread, the mean gap is that at the last call, not when the layer begins, and the wait to
load again counts from the end of the service, not from the call. The code loads again only where an
instance of the function idles, contrary to its own comment; here where none does.

Shapes: B rows, F functions, R runtimes, N calls remembered.  Units: seconds, GiB.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster.startup.rainbowcake import MIB_A_GIB, QUANTILE

Floats = NDArray[np.float64]
CALLS = 6
"""Calls that a history remembers."""
WINDOW_S = 86_400.0
ODDS = 249.0
"""alpha / (1 - alpha) at the published alpha of 0.996: MiB s of idling that a second is worth."""


class History:
    """The last calls to each group of functions, the latest first.

    Args:
        rows: parallel clusters.
        groups: the group of every function. Shape: (F,)
    """

    def __init__(self, rows: int, groups: Sequence[Hashable]) -> None:
        index = {group: k for k, group in enumerate(dict.fromkeys(groups))}
        self.group = np.array([index[group] for group in groups])
        """Shape: (F,)"""
        self._order = np.argsort(self.group, kind="stable")
        self._starts = np.searchsorted(self.group[self._order], np.arange(len(index)))
        self._calls = np.full((rows, len(index), CALLS), -np.inf)

    def add(self, calls: NDArray[np.int64], last_s: Floats, since_s: Floats) -> None:
        """Note the calls since the last tick.

        Args:
            calls: how many. Shape: (B, F)
            last_s: the last call ever. Shape: (B, F)
            since_s: when the last tick was. Shape: (B,)
        """
        count = np.add.reduceat(calls[:, self._order], self._starts, axis=1)[..., None]
        last = np.maximum.reduceat(last_s[:, self._order], self._starts, axis=1)[..., None]
        back = np.arange(CALLS)
        step = np.where(count > 0, last - since_s[:, None, None], 0.0) / np.maximum(count, 1)
        older = np.take_along_axis(self._calls, np.clip(back - count, 0, CALLS - 1), axis=2)
        self._calls = np.where(back < count, last - back * step, older)

    def mean_gap_s(self, now_s: Floats, window_s: float) -> Floats:
        """Compute each function's mean gap: the span of the calls over their number, as the code.

        NaN where no call is younger than the window. Shape: (B, F)
        """
        seen = self._calls > (now_s - window_s)[:, None, None]
        count = seen.sum(axis=2)
        oldest = np.where(seen, self._calls, np.inf).min(axis=2)
        with np.errstate(invalid="ignore"):
            span = np.where(count > 0, self._calls[..., 0] - oldest, np.nan)
        mean: Floats = (span / np.maximum(count, 1))[:, self.group]
        return mean


class RainbowCake(Policy):
    """Keep the layers of a container for lifetimes of their own.

    Args:
        quantile: of the gap, up to which a layer stays.
        odds: alpha / (1 - alpha), the MiB s of idling that a second of start-up is worth.
        floor_s: lifetime where the quantile is less.
        default_s: lifetime while there have been no calls.
        window_s: calls that are older are forgotten.
        prewarm: load again when the quantile has passed.
        eviction: rule under pressure.
        tick_s: seconds between decisions.
    """

    def __init__(
        self,
        quantile: float = QUANTILE,
        odds: float = ODDS,
        floor_s: float = 60.0,
        default_s: float = 600.0,
        window_s: float = WINDOW_S,
        prewarm: bool = True,
        eviction: str = "lru",
        tick_s: float = 60.0,
    ) -> None:
        if not 0.0 <= quantile < 1.0:
            raise SpecError("policy.quantile", quantile, "in [0, 1)")
        for name, value in (("odds", odds), ("floor_s", floor_s), ("default_s", default_s)):
            if not 0.0 <= value < math.inf:
                raise SpecError(f"policy.{name}", value, "finite, >= 0")
        for name, value in (("window_s", window_s), ("tick_s", tick_s)):
            if not value > 0.0:
                raise SpecError(f"policy.{name}", value, "a time > 0")
        self.quantile, self.odds, self.floor_s = quantile, odds, floor_s
        self.default_s, self.window_s, self.prewarm = default_s, window_s, prewarm
        self.tick_s = tick_s
        self.rules = Rules(eviction=eviction)

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Forget all calls."""
        some, of = cluster.functions, cluster.columns
        weights_s = cluster.loads_s() - (of.sandbox_s + of.runtime_s)
        startup_s = np.array([weights_s, of.runtime_s, of.sandbox_s])
        gib = np.array([of.device_gib, of.runtime_gib, of.sandbox_gib])
        with np.errstate(divide="ignore", invalid="ignore"):
            bound_s = self.odds * startup_s / (gib * MIB_A_GIB)
        self._bound_s = np.where(gib > 0.0, bound_s, [[np.inf], [0.0], [0.0]])
        self._parked = gib[1:] > 0.0
        groups = (range(len(some)), [f.image for f in some], [""] * len(some))
        self._histories = [History(rows, group) for group in groups]
        self._calls = np.zeros((rows, len(some)), np.int64)
        self._since_s = np.zeros(rows)

    def _lifetime_s(self, quantile_s: Floats, layer: int) -> Floats:
        """The lifetime of a layer by the quantile of its gaps. Shape: (B, F)"""
        floor_s = np.where(np.isnan(quantile_s), self.default_s, self.floor_s)
        known = quantile_s >= self.floor_s
        return np.where(known, np.minimum(quantile_s, self._bound_s[layer]), floor_s)

    def decide(self, snapshot: Snapshot) -> Decision:
        """Return the lifetimes of every function's layers."""
        calls, now_s = snapshot.arrivals - self._calls, snapshot.now_s
        quantiles_s = []
        for history in self._histories:
            history.add(calls, snapshot.last_arrival_s, self._since_s)
            mean_s = history.mean_gap_s(now_s, self.window_s)
            quantiles_s.append(-mean_s * math.log1p(-self.quantile))
        self._calls, self._since_s = snapshot.arrivals.copy(), now_s.copy()
        user_s, lang_s, bare_s = (self._lifetime_s(q, k) for k, q in enumerate(quantiles_s))
        again = self.prewarm & (quantiles_s[0] > user_s)
        return Decision(
            keep_alive_s=user_s,
            runtime_keep_alive_s=np.where(self._parked[0], lang_s, 0.0),
            sandbox_keep_alive_s=np.where(self._parked[1], bare_s, 0.0),
            prewarm_after_s=np.where(again, quantiles_s[0], np.inf),
            prewarm_keep_s=user_s,
        )
