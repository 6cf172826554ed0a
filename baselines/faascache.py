"""FaasCache: keep-alive is caching (Fuerst and Sharma, ASPLOS 2021, section 4).

Rule: priority = clock + frequency x start-up time / size; the lowest goes when space is needed; the
clock becomes its priority. Nothing expires.
Follows the paper (frequency a function, reset when its last instance goes; only the shortfall is
freed); the public simulator's variant is preset `faascache_sim`. `ttl_s` adds an expiry, as tuned
deployments do.
"""

from __future__ import annotations

import math

from stoker.baselines.ttl import FixedTtl


class FaasCache(FixedTtl):
    """Greedy-dual-size-frequency eviction."""

    def __init__(self, ttl_s: float = math.inf, host_ttl_s: float = 0.0) -> None:
        super().__init__(ttl_s, "greedy_dual", host_ttl_s)
