"""Arrival processes, each a draw of sorted times that covers [0, horizon).

Some draws have times outside of it, too; `within` marks those to keep.

`mmpp2` has two states of exponential length, each with its own Poisson rate. Its two fits are to
the code and the conversation service of the Azure LLM inference trace of 2023 (CC-BY 4.0): index
of dispersion over 1 s to 60 s (log RMSE 0.068 and 0.038), then the split of rates that is nearest
in distribution.

Shapes: N arrivals, S sojourns.  Units: seconds, requests per second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError

Times = NDArray[np.float64]
BURN_IN_GAPS = 20
"""A renewal process starts so many mean gaps before time 0, so that time 0 is nothing special."""


@dataclass(frozen=True)
class Mmpp2:
    """A two-state Markov-modulated Poisson process."""

    high_per_s: float
    low_per_s: float
    high_sojourn_s: float
    low_sojourn_s: float

    def __post_init__(self) -> None:
        for name in ("high_per_s", "low_per_s", "high_sojourn_s", "low_sojourn_s"):
            value = getattr(self, name)
            low_ok = value > 0.0 or (name == "low_per_s" and value == 0.0)
            if not (math.isfinite(value) and low_ok):
                raise SpecError(f"mmpp2.{name}", value, "finite, > 0 (low_per_s may be 0)")

    @property
    def mean_per_s(self) -> float:
        """Long-run rate."""
        high = self.high_per_s * self.high_sojourn_s + self.low_per_s * self.low_sojourn_s
        return high / (self.high_sojourn_s + self.low_sojourn_s)

    def at_rate(self, rate_per_s: float) -> Mmpp2:
        """Stretch time so that the mean rate becomes `rate_per_s`; requests a burst stay."""
        factor = rate_per_s / self.mean_per_s
        return Mmpp2(
            self.high_per_s * factor,
            self.low_per_s * factor,
            self.high_sojourn_s / factor,
            self.low_sojourn_s / factor,
        )


FITS = {
    "azure_llm_2023_code": Mmpp2(15.7387, 0.2422, 8.34, 47.24),
    "azure_llm_2023_conv": Mmpp2(6.8393, 4.2216, 162.69, 162.69),
}


def poisson(rng: np.random.Generator, rate_per_s: float, horizon_s: float) -> Times:
    """Draw a Poisson process. Shape: (N,)."""
    times = rng.random(rng.poisson(rate_per_s * horizon_s)) * horizon_s
    times.sort()
    return times


def gamma(rng: np.random.Generator, rate_per_s: float, horizon_s: float, cv: float) -> Times:
    """Draw a renewal process with gamma gaps of coefficient of variation `cv`. Shape: (N,)."""
    shape, mean_s = 1.0 / cv**2, 1.0 / rate_per_s
    return _renewal(lambda n: rng.gamma(shape, mean_s / shape, n), rate_per_s, horizon_s)


def lognormal(rng: np.random.Generator, rate_per_s: float, horizon_s: float, sigma: float) -> Times:
    """Draw a renewal process whose gaps have a normal logarithm of that sigma. Shape: (N,)."""
    mu = -math.log(rate_per_s) - 0.5 * sigma**2
    return _renewal(lambda n: rng.lognormal(mu, sigma, n), rate_per_s, horizon_s)


def _renewal(draw: Callable[[int], Times], rate_per_s: float, horizon_s: float) -> Times:
    """Add up gaps from some time before 0 on, until the horizon is reached. Shape: (N,)."""
    start_s = -BURN_IN_GAPS * (1.0 / rate_per_s)
    times: list[Times] = []
    while start_s < horizon_s:
        block = start_s + draw(int((horizon_s - start_s) * rate_per_s) + 64).cumsum()
        times.append(block)
        start_s = float(block[-1])
    return np.concatenate(times)


def mmpp2(rng: np.random.Generator, process: Mmpp2, horizon_s: float) -> Times:
    """Draw an MMPP2 that starts in its long-run state. Shape: (N,)."""
    lengths_s = np.array([process.high_sojourn_s, process.low_sojourn_s])
    rates = np.array([process.high_per_s, process.low_per_s])
    pair_s = process.high_sojourn_s + process.low_sojourn_s
    if rng.random() >= process.high_sojourn_s / pair_s:  # the low state comes first
        lengths_s, rates = lengths_s[::-1], rates[::-1]
    blocks: list[Times] = []
    reached_s = 0.0
    while reached_s < horizon_s:
        pairs = int((horizon_s - reached_s) / pair_s) + 8
        drawn = rng.exponential(size=(pairs, 2)) * lengths_s
        blocks.append(drawn)
        reached_s += float(drawn.sum())
    sojourns_s = np.concatenate(blocks)
    counts = rng.poisson(sojourns_s * rates).ravel()
    sojourns_s = sojourns_s.ravel()
    starts_s = sojourns_s.cumsum() - sojourns_s
    times = rng.random(int(counts.sum()))
    begun = slice(starts_s.searchsorted(horizon_s))  # later sojourns only advance the generator
    times = times[: int(counts[begun].sum())]
    times *= sojourns_s[begun].repeat(counts[begun])
    times += starts_s[begun].repeat(counts[begun])
    times.sort()
    return times


def timer(rng: np.random.Generator, period_s: float, horizon_s: float, jitter_s: float) -> Times:
    """Fire every `period_s` from a random offset, with normal jitter. Shape: (N,)."""
    ticks = np.arange(rng.random() * period_s, horizon_s, period_s)
    times = ticks + rng.normal(0.0, jitter_s, len(ticks))
    times.sort()
    return times


def diurnal(times: Times, horizon_s: float, depth: float, peak_h: float) -> Times:
    """Bend a process in operational time so that its rate follows 1 + depth cos(day). Shape: (N,).

    The mean rate over the horizon stays; gaps between neighbours stretch at night. Each time is
    bent by itself, so those of several processes may be passed at once.
    """
    if depth == 0.0:
        return times
    bent: Times = np.interp(times, *_clocks(horizon_s, depth, peak_h))
    return np.minimum(bent, math.nextafter(horizon_s, 0.0))


@lru_cache(maxsize=8)
def _clocks(horizon_s: float, depth: float, peak_h: float) -> tuple[Times, Times]:
    """Operational time at every minute up to the horizon, and the minutes. Shapes: (M,), (M,)."""
    day_s, grid_s = 86400.0, np.linspace(0.0, horizon_s, max(2, int(horizon_s / 60.0) + 1))
    phase = 2.0 * np.pi * (grid_s - peak_h * 3600.0) / day_s
    passed = grid_s + depth * day_s / (2.0 * np.pi) * (np.sin(phase) - np.sin(phase[0]))
    return passed * (horizon_s / passed[-1]), grid_s


def within(times: Times, horizon_s: float) -> NDArray[np.bool_]:
    """Mark the times in [0, horizon). Shape: (N,)."""
    return (times >= 0.0) & (times < horizon_s)
