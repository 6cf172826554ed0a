"""Speed and tightness of the clairvoyant bound."""

from __future__ import annotations

from omegaconf import DictConfig

from stoker.agents.bench_figure import Figure
from stoker.baselines.bounds.bench import bench


def measure(cfg: DictConfig) -> list[Figure]:
    """Measure one bound of a million requests (or `requests`)."""
    found = bench(int(cfg.requests or 1_000_000))
    requests = f"{found['requests']:,.0f} requests"
    gap = 100.0 * abs(found["gap_to_program"])
    note = f"exact program of {found['program_requests']:,.0f} requests"
    budget = 60.0 if not cfg.requests else None
    return [
        Figure("bound", f"bound of {requests}", found["seconds"], "s", budget, False),
        Figure("bound", "below the exact program", gap, "%", 0.1, False, note),
    ]
