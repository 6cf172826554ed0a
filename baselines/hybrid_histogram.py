"""Hybrid histogram (Shahrad et al., "Serverless in the Wild", ATC 2020, section 4).

Rule: histogram of idle times; concentrated: unload, load again at 0.9 x the head percentile, keep
until 1.1 x the tail percentile; else keep for the whole range. Compiled in
envs/cluster/rules/hybrid_histogram.py, which states the two differences from the paper.
"""

from __future__ import annotations

import math

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Rules


class HybridHistogram(Policy):
    """Keep-alive and prewarm windows from percentiles of a function's idle times.

    Args:
        head: percentile share at which to load again.
        tail: percentile share until which to keep.
        margin: share by which both are widened.
        cv: least coefficient of variation of the bin counts that counts as concentrated.
        minute_s: width of a bin (60 in the paper; scale it with compressed traces).
        prewarm: False keeps from the start instead of unloading and loading again.
        eviction: rule under pressure.
    """

    tick_s = math.inf

    def __init__(
        self,
        head: float = 0.05,
        tail: float = 0.99,
        margin: float = 0.1,
        cv: float = 2.0,
        minute_s: float = 60.0,
        prewarm: bool = True,
        eviction: str = "lru",
    ) -> None:
        if not 0.0 <= head < tail <= 1.0:
            raise SpecError("policy.head", head, f"0 <= head < tail ({tail}) <= 1")
        if not minute_s > 0.0:
            raise SpecError("policy.minute_s", minute_s, "a time > 0")
        params = {
            "hybrid_head": head,
            "hybrid_tail": tail,
            "hybrid_margin": margin,
            "hybrid_cv": cv,
            "hybrid_minute_s": minute_s,
            "hybrid_prewarm": float(prewarm),
        }
        self.rules = Rules(plan="hybrid_histogram", eviction=eviction, params=params)

    def decide(self, snapshot: Snapshot) -> Decision:
        """Leave everything to the compiled rule."""
        return Decision()
