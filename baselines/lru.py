"""Least recently used: keep until space is needed.

Rule: nothing expires; the least recently used idle instance goes first.
"""

from __future__ import annotations

import math

from stoker.baselines.ttl import FixedTtl


class Lru(FixedTtl):
    """Keep for ever, evict the least recently used."""

    def __init__(self, host_ttl_s: float = 0.0) -> None:
        super().__init__(math.inf, "lru", host_ttl_s)
