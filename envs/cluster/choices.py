"""What can be chosen by name in a spec, and the check of it."""

from __future__ import annotations

from stoker.envs.cluster.errors import SpecError

CHOICES = {
    "rules.scale_out": ("per_request", "target_concurrency", "wait_vs_cold"),
    "rules.placement": ("most_free", "first_fit", "best_fit", "soonest", "shared_bytes"),
    "rules.eviction": (
        "lru", "greedy_dual", "freq", "size", "lfu", "landlord", "greedy_dual_two_tier", "score",
        "hazard",
    ),
    "rules.host_eviction": ("lru", "greedy_dual", "score"),
    "rules.order": ("fcfs", "edf", "collation", "required_request_count"),
    "rules.plan": ("decision", "hybrid_histogram", "hazard"),
    "rules.overload": ("queue", "drop"),
    "rules.eviction_need": ("shortfall", "full"),
    "rules.futile_eviction": ("never", "allowed"),
    "rules.clone_choice": ("mru", "lru", "newest", "arbitrary"),
    "rules.ttl_anchor": ("end", "start"),
    "rules.ttl_expiry": ("eager", "lazy"),
    "rules.frequency": ("function", "instance"),
    "rules.clock": ("max", "assign"),
    "link.discipline": ("fair", "fifo"),
    "gpu.sharing": ("parallel", "exclusive", "processor", "spatial"),
    "gpu.interference": ("none", "linear", "excess"),
    "node.loading": ("sequential", "pipelined"),
    "node.demotion": ("instant", "copy"),
    "slow.link": ("disk", "pcie", "nvlink", "network"),
    "objective.billing": ("memory", "gpu", "node"),
}  # fmt: skip


def choose(field: str, value: str, kind: str) -> None:
    """Refuse a value that is no choice of its kind."""
    if value not in CHOICES[kind]:
        raise SpecError(field, value, " | ".join(CHOICES[kind]))
