"""Fixed keep-alive: the default of every serverless platform (OpenWhisk: 600 s).

Rule: an instance that has idled for ttl_s goes; under pressure the least recently used goes first.
Follows OpenWhisk's idle timer, from the end of the last use.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Rules


class FixedTtl(Policy):
    """Keep every idle instance for `ttl_s` seconds.

    Args:
        ttl_s: keep-alive; inf = until evicted.
        eviction: rule under pressure.
        host_ttl_s: then keep the weights in host memory this long.
        host_eviction: rule under pressure there.
    """

    tick_s = math.inf

    def __init__(
        self,
        ttl_s: float = 600.0,
        eviction: str = "lru",
        host_ttl_s: float = 0.0,
        host_eviction: str = "lru",
    ) -> None:
        if not ttl_s >= 0.0:
            raise SpecError("policy.ttl_s", ttl_s, "a time >= 0")
        if not host_ttl_s >= 0.0:
            raise SpecError("policy.host_ttl_s", host_ttl_s, "a time >= 0")
        self.ttl_s, self.host_ttl_s = ttl_s, host_ttl_s
        self.rules = Rules(eviction=eviction, host_eviction=host_eviction)

    def decide(self, snapshot: Snapshot) -> Decision:
        """Return the same orders for every function."""
        shape = snapshot.idle.shape
        return Decision(
            keep_alive_s=np.full(shape, self.ttl_s),
            host_keep_alive_s=np.full(shape, self.host_ttl_s),
        )
