"""Seeded stand-ins for production traffic, for where no trace is at hand.

`generate` draws many functions: Zipf popularity, and for each function one of four processes, in
shares that follow the triggers of 347 functions of the Azure Functions trace of 2019 (timer 169,
http 98, the burstier rest 80). `mmpp2` draws one LLM service from a fit to the Azure LLM trace.

Shapes: N requests, F functions.  Units: seconds, requests per second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import marginals, processes
from stoker.envs.workload.workload import Workload

VERSION = "synthetic-1"
TIMER, POISSON, GAMMA, MMPP2 = range(4)
"""Processes of a function, in the order of `Mix`."""
TIMER_PERIODS_S = np.array([60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0])
FASTEST_TIMER_PER_S = 1.5 / TIMER_PERIODS_S[0]
"""Faster functions are no timers: their requests would go missing."""


@dataclass(frozen=True)
class Mix:
    """What share of the functions follows which process; normalised to sum to one."""

    timer: float = 169.0
    poisson: float = 98.0
    gamma: float = 50.0
    mmpp2: float = 30.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not (math.isfinite(value) and value >= 0.0):
                raise SpecError(f"mix.{f.name}", value, "finite, >= 0")
        if self.total == 0.0:
            raise SpecError("mix", 0.0, "one share > 0")

    @classmethod
    def of(cls, shares: Mix | Mapping[str, float]) -> Mix:
        """Take a mix as it is, or fill one with shares by name; those not named are 0."""
        if isinstance(shares, Mix):
            return shares
        names = [f.name for f in fields(cls)]
        for name in shares:
            if name not in names:
                raise SpecError(f"mix.{name}", shares[name], " | ".join(names))
        return cls(**{**dict.fromkeys(names, 0.0), **shares})

    @property
    def total(self) -> float:
        """Sum of the shares."""
        return self.timer + self.poisson + self.gamma + self.mmpp2


def generate(
    rng: np.random.Generator,
    *,
    functions: int = 100,
    hours: float = 2.0,
    requests_per_s: float = 2.0,
    zipf: float = 1.0,
    mix: Mix | Mapping[str, float] = Mix(),
    gamma_cv: float = 4.0,
    burst_fit: str = "azure_llm_2023_code",
    timer_jitter_s: float = 1.0,
    diurnal_depth: float = 0.3,
    diurnal_peak_h: float = 14.0,
    service_range_s: tuple[float, float] = (0.05, 20.0),
) -> Workload:
    """Draw traffic over many functions.

    Args:
        rng: the only source of randomness; same state, same bytes.
        functions: number of functions, the most popular first.
        hours: length.
        requests_per_s: mean rate of all functions together, before timers are rounded to usual
            periods.
        zipf: exponent of popularity; 0 = all alike.
        mix: shares of the processes, perhaps as a mapping (those left out are 0).
        gamma_cv: coefficient of variation of the gaps of gamma functions.
        burst_fit: fit of the on/off functions, stretched in time to each one's rate.
        timer_jitter_s: standard deviation of timers' jitter.
        diurnal_depth: 0 = flat, 1 = no traffic at night; timers do not follow it.
        diurnal_peak_h: hour of the peak, from the start.
        service_range_s: range that service times (one a function) are clipped to.

    Raises:
        SpecError: names the argument.
    """
    check_common(functions, hours, requests_per_s, zipf)
    _check(gamma_cv, timer_jitter_s, diurnal_depth)
    mix, fit = Mix.of(mix), _fit(burst_fit)
    horizon_s = hours * 3600.0
    rates, periods_s = _rates(functions, requests_per_s, zipf)
    kinds = _deal(rng, rates, mix)

    def draw(kind: int, rate: float, period_s: float) -> processes.Times:
        if kind == TIMER:
            return processes.timer(rng, period_s, horizon_s, timer_jitter_s)
        if kind == POISSON:
            return processes.poisson(rng, rate, horizon_s)
        if kind == GAMMA:
            return processes.gamma(rng, rate, horizon_s, gamma_cv)
        return processes.mmpp2(rng, fit.at_rate(rate), horizon_s)

    rows = zip(kinds.tolist(), rates.tolist(), periods_s.tolist(), strict=True)
    drawn = [draw(*row) for row in rows]
    arrival_s = np.concatenate(drawn)
    function = np.arange(functions, dtype=np.int32).repeat([len(times) for times in drawn])
    kept = processes.within(arrival_s, horizon_s)
    arrival_s, function = arrival_s[kept], function[kept]
    by_day = (kinds != TIMER)[function]
    arrival_s[by_day] = processes.diurnal(
        arrival_s[by_day], horizon_s, diurnal_depth, diurnal_peak_h
    )
    order = arrival_s.argsort(kind="stable")
    arrival_s, function = arrival_s[order], function[order]
    service_s = marginals.durations_s(rng, functions, *service_range_s)[function]
    source = f"{VERSION}; {functions} functions, {hours:g} h, {requests_per_s:g}/s, zipf {zipf:g}"
    return Workload(arrival_s, function, names(functions), horizon_s, service_s, source=source)


def mmpp2(
    rng: np.random.Generator,
    *,
    fit: str = "azure_llm_2023_code",
    hours: float = 1.0,
    rate_factor: float = 1.0,
    name: str = "llm",
) -> Workload:
    """Draw one LLM service: MMPP2 arrivals and token counts from the fits to the same trace.

    Args:
        rng: the only source of randomness.
        fit: "azure_llm_2023_code" or "azure_llm_2023_conv".
        hours: length.
        rate_factor: multiplies both rates; the lengths of the bursts stay.
        name: the function's name.
    """
    process = _fit(fit)
    for label, value in (("hours", hours), ("rate_factor", rate_factor)):
        if not (math.isfinite(value) and value > 0.0):
            raise SpecError(label, value, "finite, > 0")
    process = processes.Mmpp2(
        process.high_per_s * rate_factor,
        process.low_per_s * rate_factor,
        process.high_sojourn_s,
        process.low_sojourn_s,
    )
    horizon_s = hours * 3600.0
    arrival_s = processes.mmpp2(rng, process, horizon_s)
    arrival_s = arrival_s[processes.within(arrival_s, horizon_s)]
    n = len(arrival_s)
    prompt, output = marginals.TOKENS[fit]
    return Workload(
        arrival_s,
        np.zeros(n, np.int32),
        (name,),
        horizon_s,
        prompt_tokens=marginals.tokens(rng, prompt, n),
        output_tokens=marginals.tokens(rng, output, n),
        source=f"{VERSION} mmpp2 {fit}, {hours:g} h, rate x{rate_factor:g}",
    )


def _deal(rng: np.random.Generator, rates: NDArray[np.float64], mix: Mix) -> NDArray[np.int64]:
    """Give each function a process, in exact shares, in random order. Shape: (F,).

    Timers go to functions slow enough for one of the usual periods, while there are such.
    """
    functions = len(rates)
    slow = rng.permutation((rates <= FASTEST_TIMER_PER_S).nonzero()[0])
    kinds = np.full(functions, POISSON)
    kinds[slow[: round(functions * mix.timer / mix.total)]] = TIMER
    others = rng.permutation((kinds != TIMER).nonzero()[0])
    rest = mix.poisson + mix.gamma + mix.mmpp2
    if rest:
        kinds[others[round(mix.poisson / rest * len(others)) :]] = GAMMA
        kinds[others[round((mix.poisson + mix.gamma) / rest * len(others)) :]] = MMPP2
    return kinds


@lru_cache(maxsize=8, typed=True)
def _rates(
    functions: int, requests_per_s: float, zipf: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share the rate out by popularity, and find the usual period nearest in ratio. Shape: (F,)."""
    rates = zipf_rates(functions, requests_per_s, zipf)
    nearest = np.abs(np.log(rates[:, None] * TIMER_PERIODS_S)).argmin(axis=1)
    return rates, TIMER_PERIODS_S[nearest]


def zipf_rates(functions: int, requests_per_s: float, zipf: float) -> NDArray[np.float64]:
    """Share a rate out by popularity, the most popular first. Shape: (F,)."""
    popularity = np.arange(1, functions + 1, dtype=np.float64) ** -zipf
    rates: NDArray[np.float64] = requests_per_s * popularity / popularity.sum()
    return rates


def ordered(
    arrivals: Sequence[NDArray[np.float64]], owners: Sequence[NDArray[np.int32]], horizon_s: float
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Join parts, leave out what lies beyond the horizon, and sort by time. Shapes: (N,), (N,)."""
    arrival_s, function = np.concatenate(arrivals), np.concatenate(owners)
    kept = processes.within(arrival_s, horizon_s)
    arrival_s, function = arrival_s[kept], function[kept]
    order = arrival_s.argsort(kind="stable")
    return arrival_s[order], function[order]


@lru_cache(maxsize=8)
def names(functions: int) -> tuple[str, ...]:
    """Name functions by number, zero-padded so that they sort."""
    width = len(str(functions - 1))
    return tuple(f"f{i:0{width}d}" for i in range(functions))


def _fit(name: str) -> processes.Mmpp2:
    if name not in processes.FITS:
        raise SpecError("fit", name, " | ".join(processes.FITS))
    return processes.FITS[name]


def check_common(functions: int, hours: float, requests_per_s: float, zipf: float) -> None:
    """Check what all generators take."""
    if functions < 1:
        raise SpecError("functions", functions, "an integer >= 1")
    for name, value in {"hours": hours, "requests_per_s": requests_per_s}.items():
        if not (math.isfinite(value) and value > 0.0):
            raise SpecError(name, value, "finite, > 0")
    if not (math.isfinite(zipf) and zipf >= 0.0):
        raise SpecError("zipf", zipf, "finite, >= 0")


def _check(gamma_cv: float, timer_jitter_s: float, diurnal_depth: float) -> None:
    if not (math.isfinite(gamma_cv) and gamma_cv > 0.0):
        raise SpecError("gamma_cv", gamma_cv, "finite, > 0")
    if not (math.isfinite(timer_jitter_s) and timer_jitter_s >= 0.0):
        raise SpecError("timer_jitter_s", timer_jitter_s, "finite, >= 0")
    if not 0.0 <= diurnal_depth <= 1.0:
        raise SpecError("diurnal_depth", diurnal_depth, "0..1")
