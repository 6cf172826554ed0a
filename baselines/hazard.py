"""The hazard index: the opponent that matters.

Rule: forecast the gap from the function's own decayed histogram and the population's; evict by the
Gittins index of the idle interval times start-up time over size; keep while rent pays; load again
ahead of the next arrival where that pays at the online price of memory. Compiled in
envs/cluster/rules/hazard.py. Not published as such; the index is Gittins (1979).
"""

from __future__ import annotations

import math

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.spec import Rules


class HazardIndex(Policy):
    """Evict, keep and prewarm by a forecast of the gap.

    Args:
        slow_decay: weight of a gap after one more gap.
        prior_weight: gaps that the population histogram counts for.
        cost_exponent: of the start-up time in the index.
        size_exponent: of the size.
        prewarm: load again ahead of demand.
        price_factor: multiplier on the online price of memory in the prewarm plan.
    """

    tick_s = math.inf

    def __init__(
        self,
        slow_decay: float = 0.97,
        prior_weight: float = 0.1,
        cost_exponent: float = 1.0,
        size_exponent: float = 1.0,
        prewarm: bool = True,
        price_factor: float = 1.0,
    ) -> None:
        params = {
            "slow_decay": slow_decay,
            "prior_weight": prior_weight,
            "cost_exponent": cost_exponent,
            "size_exponent": size_exponent,
            "prewarm": float(prewarm),
            "price_factor": price_factor,
        }
        self.rules = Rules(eviction="hazard", plan="hazard", params=params)

    def decide(self, snapshot: Snapshot) -> Decision:
        """Leave everything to the compiled rule."""
        return Decision()
