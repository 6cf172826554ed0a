"""What each heuristic may tune: ranges and choices around its published setting.

Units: seconds (of the trace; `scale` shrinks them with compressed time).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """A number between two ends."""

    low: float
    high: float
    start: float
    """The published value; inf where `or_inf`."""
    log: bool = False
    time: bool = False
    """A time of the trace, which `scale` multiplies."""
    or_inf: bool = False
    """May be infinite, too."""

    def suggest(self, trial: Any, name: str, scale: float) -> float:
        """Let a trial choose."""
        if self.or_inf and trial.suggest_categorical(f"{name}_inf", [True, False]):
            return math.inf
        value = float(trial.suggest_float(name, self.low, self.high, log=self.log))
        return value * scale if self.time else value

    def published(self, name: str) -> dict[str, Any]:
        """Return the trial parameters of the published value."""
        if not self.or_inf:
            return {name: self.start}
        infinite = math.isinf(self.start)
        return {f"{name}_inf": infinite} | ({} if infinite else {name: self.start})

    def grid(self, name: str, points: int) -> dict[str, list[Any]]:
        """Return evenly spread values, the ends included."""
        shares = [k / (points - 1) for k in range(points)]
        if self.log:
            values = [self.low * (self.high / self.low) ** share for share in shares]
        else:
            values = [self.low + (self.high - self.low) * share for share in shares]
        return {name: values} | ({f"{name}_inf": [True, False]} if self.or_inf else {})


@dataclass(frozen=True)
class Choice:
    """One of a few values; the first is the published one."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str, scale: float) -> Any:
        """Let a trial choose."""
        return trial.suggest_categorical(name, list(self.values))

    def published(self, name: str) -> dict[str, Any]:
        """Return the trial parameters of the published value."""
        return {name: self.values[0]}

    def grid(self, name: str, points: int) -> dict[str, list[Any]]:
        """Return all values."""
        return {name: list(self.values)}


HAZARD: dict[str, Range | Choice] = {
    "slow_decay": Range(0.8, 0.999, 0.97),
    "prior_weight": Range(0.01, 3.0, 0.1, log=True),
    "cost_exponent": Range(0.3, 2.0, 1.0),
    "size_exponent": Range(0.3, 2.0, 1.0),
    "prewarm": Choice((True, False)),
    "price_factor": Range(0.1, 10.0, 1.0, log=True),
}
SPACES: dict[str, dict[str, Range | Choice]] = {
    "ttl": {"ttl_s": Range(1.0, 14_400.0, 600.0, log=True, time=True)},
    "lru": {},
    "faascache": {
        "ttl_s": Range(10.0, 28_800.0, math.inf, log=True, time=True, or_inf=True),
    },
    "hybrid_histogram": {
        "head": Range(0.0, 0.3, 0.05),
        "tail": Range(0.5, 1.0, 0.99),
        "margin": Range(0.0, 0.5, 0.1),
        "cv": Range(0.0, 8.0, 2.0),
        "prewarm": Choice((True, False)),
        "eviction": Choice(("lru", "greedy_dual")),
    },
    "rainbowcake": {
        "quantile": Range(0.3, 0.99, 0.8),
        "odds": Range(1.0, 1e8, 249.0, log=True),
        "floor_s": Range(1.0, 3_600.0, 60.0, log=True, time=True),
        "prewarm": Choice((True, False)),
        "eviction": Choice(("lru", "greedy_dual")),
    },
    "icebreaker": {
        "variant": Choice(("paper", "public")),
        "window": Choice((60, 30, 120)),
        "harmonics": Choice((10, 5, 20)),
        "cut_low": Range(0.0, 0.5, 0.33),
        "cut_high": Range(0.5, 1.0, 0.66),
    },
    "lead_time": {
        "warm": Range(0.02, 1.0, 0.5),
        "keep": Range(0.0, 1.0, 0.1),
        "spread": Range(0.0, 3.0, 0.0),
        "window_s": Choice((600.0, 60.0, 3600.0)),
    },
    "serverlessllm": {
        "periods": Range(0.1, 1000.0, 1.0, log=True),
        "window_s": Choice((3600.0, 600.0)),
        "eviction": Choice(("lru", "greedy_dual", "freq")),
    },
    "torpor": {
        "eviction": Choice(("lru", "greedy_dual", "freq")),
        "order": Choice(("edf", "fcfs", "collation")),
    },
    "hazard": HAZARD,
    "combined": {
        "warm": Range(0.05, 1.2, 0.5),
        "host": Choice((True, False)),
        "factor": Range(1.0, 4.0, 2.0),
        **HAZARD,
    },
    "alpaserve": {"tick_s": Range(60.0, 3600.0, 300.0, log=True, time=True)},
    "hpa": {
        "target": Range(0.3, 1.0, 0.7),
        "window_s": Range(15.0, 3600.0, 300.0, log=True, time=True),
        "ttl_s": Range(1.0, 14_400.0, 600.0, log=True, time=True),
    },
    "nexus": {"factor": Range(1.0, 4.0, 2.0)},
    "clipper": {
        "step": Range(0.5, 32.0, 1.0, log=True),
        "backoff": Range(0.5, 0.99, 0.9),
        "delay": Range(0.0, 0.5, 0.0),
        "share": Range(0.1, 1.0, 1.0),
    },
    "batch": {"percentile": Range(0.5, 0.999, 0.95), "use": Range(0.5, 1.5, 0.9)},
    "sarathi": {"budget": Choice((512, 2048, 1024, 256, 128))},
    "sarathi_slo": {"margin": Range(0.5, 4.0, 1.0, log=True), "tile": Choice((128, 32))},
    "vllm_order": {},
    "orca_order": {},
    "triton": {"preferred": Choice((32, 16, 8, 4, 2, 1)), "delay": Range(0.0, 0.8, 0.0)},
}
FIXED: dict[str, dict[str, float]] = {
    "hybrid_histogram": {"minute_s": 60.0},
    "rainbowcake": {"default_s": 600.0, "window_s": 86_400.0, "tick_s": 60.0},
    "icebreaker": {"tick_s": 60.0},
    "lead_time": {"tick_s": 60.0},
    "serverlessllm": {"tick_s": 60.0},
    "combined": {"tick_s": 60.0},
    "hpa": {"tick_s": 15.0},
}
"""Times that are not searched but follow the trace's."""
KNOBS = {
    "ttl": "ttl_s", "faascache": "ttl_s", "hybrid_histogram": "minute_s", "rainbowcake": "odds",
}  # fmt: skip
"""What trades dollars for waiting in a published policy."""
