"""Parity presets: the rules under which the model matches a public simulator exactly."""

from __future__ import annotations

from dataclasses import replace

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Rules

EVICTION = {
    "greedy_dual": "greedy_dual", "ttl": "lru", "lru": "lru", "freq": "freq", "size": "size",
    "lfu": "lfu", "landlord": "landlord",
}  # fmt: skip
PRESETS = {
    "stoker": Rules(scale_out="per_request", overload="drop"),
    "faascache_sim": Rules(
        scale_out="per_request",
        overload="drop",
        placement="first_fit",
        eviction_need="full",
        futile_eviction="allowed",
        clone_choice="mru",
        ttl_anchor="start",
        ttl_expiry="lazy",
        frequency="instance",
        clock="assign",
        time_quantum_s=0.001,
    ),
    "simfaas": Rules(
        scale_out="per_request",
        overload="drop",
        placement="first_fit",
        clone_choice="newest",
        ttl_anchor="end",
        ttl_expiry="eager",
        time_quantum_s=1e-9,
    ),
}
"""stoker: the natural rule in each case (free the shortfall only, eager expiry from the end of the
last use). faascache_sim: aFuerst/faascache-sim, integer milliseconds. simfaas: SimFaaS 0.2.2, on a
nanosecond grid so that an expiry and an arrival that are equal in decimals tie in floats too."""


def preset(name: str, policy: str) -> Rules:
    """Rules of a preset under one of the cache policies."""
    if name not in PRESETS:
        raise SpecError("preset", name, " | ".join(PRESETS))
    if policy not in EVICTION:
        raise SpecError("policy", policy, " | ".join(EVICTION))
    return replace(PRESETS[name], eviction=EVICTION[policy])
