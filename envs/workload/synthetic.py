"""Seeded stand-ins for production traffic, for where no trace is at hand.

`generate` draws many functions: Zipf popularity, and for each function one of four processes, in
shares that follow the triggers of 347 functions of the Azure Functions trace of 2019 (timer 169,
http 98, the burstier rest 80). `mmpp2` draws one LLM service from a fit to the Azure LLM trace.

Shapes: N requests, F functions.  Units: seconds, requests per second.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import marginals, processes
from stoker.envs.workload.workload import Workload

VERSION = "synthetic-1"
TIMER_PERIODS_S = (60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
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
            if not (np.isfinite(value) and value >= 0.0):
                raise SpecError(f"mix.{f.name}", value, "finite, >= 0")
        if self.total == 0.0:
            raise SpecError("mix", 0.0, "one share > 0")

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
    mix: Mix | None = None,
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
        mix: shares of the processes.
        gamma_cv: coefficient of variation of the gaps of gamma functions.
        burst_fit: fit of the on/off functions, stretched in time to each one's rate.
        timer_jitter_s: standard deviation of timers' jitter.
        diurnal_depth: 0 = flat, 1 = no traffic at night; timers do not follow it.
        diurnal_peak_h: hour of the peak, from the start.
        service_range_s: range that service times (one a function) are clipped to.

    Raises:
        SpecError: names the argument.
    """
    _check(functions, hours, requests_per_s, zipf, gamma_cv, timer_jitter_s, diurnal_depth)
    fit = _fit(burst_fit)
    mix = mix or Mix()
    horizon_s = hours * 3600.0
    popularity = np.arange(1, functions + 1, dtype=np.float64) ** -zipf
    rates = requests_per_s * popularity / popularity.sum()
    kinds = _deal(rng, rates, mix)

    def draw(kind: int, rate: float) -> processes.Times:
        if kind == 0:
            return processes.timer(rng, _period_s(rate), horizon_s, timer_jitter_s)
        if kind == 1:
            times = processes.poisson(rng, rate, horizon_s)
        elif kind == 2:
            times = processes.gamma(rng, rate, horizon_s, gamma_cv)
        else:
            times = processes.mmpp2(rng, fit.at_rate(rate), horizon_s)
        return processes.diurnal(times, horizon_s, diurnal_depth, diurnal_peak_h)

    pairs = zip(kinds.tolist(), rates.tolist(), strict=True)
    arrival_s, function = _merge([draw(kind, rate) for kind, rate in pairs])
    service_s = marginals.durations_s(rng, functions, *service_range_s)[function]
    width = len(str(functions - 1))
    names = tuple(f"f{i:0{width}d}" for i in range(functions))
    source = f"{VERSION}; {functions} functions, {hours:g} h, {requests_per_s:g}/s, zipf {zipf:g}"
    return Workload(arrival_s, function, names, horizon_s, service_s, source=source)


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
        if not (np.isfinite(value) and value > 0.0):
            raise SpecError(label, value, "finite, > 0")
    process = processes.Mmpp2(
        process.high_per_s * rate_factor,
        process.low_per_s * rate_factor,
        process.high_sojourn_s,
        process.low_sojourn_s,
    )
    horizon_s = hours * 3600.0
    arrival_s = processes.mmpp2(rng, process, horizon_s)
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
    slow = rng.permutation(np.flatnonzero(rates <= FASTEST_TIMER_PER_S))
    timers = slow[: round(functions * mix.timer / mix.total)]
    others = rng.permutation(np.setdiff1d(np.arange(functions), timers))
    shares = np.cumsum([mix.poisson, mix.gamma, mix.mmpp2])
    shares = shares / shares[-1] if shares[-1] else np.ones(3)
    edges = np.rint(shares * len(others))
    kinds = np.zeros(functions, np.int64)
    kinds[others] = 1 + np.searchsorted(edges, np.arange(len(others)), side="right")
    return kinds


def _period_s(rate_per_s: float) -> float:
    """Find the usual period nearest in ratio to a rate."""
    return min(TIMER_PERIODS_S, key=lambda period_s: abs(np.log(period_s * rate_per_s)))


def _merge(drawn: list[processes.Times]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    arrival_s = np.concatenate(drawn)
    function = np.repeat(np.arange(len(drawn), dtype=np.int32), [len(times) for times in drawn])
    order = np.argsort(arrival_s, kind="stable")
    return arrival_s[order], function[order]


def _fit(name: str) -> processes.Mmpp2:
    if name not in processes.FITS:
        raise SpecError("fit", name, " | ".join(processes.FITS))
    return processes.FITS[name]


def _check(
    functions: int,
    hours: float,
    requests_per_s: float,
    zipf: float,
    gamma_cv: float,
    timer_jitter_s: float,
    diurnal_depth: float,
) -> None:
    if functions < 1:
        raise SpecError("functions", functions, "an integer >= 1")
    positive = {"hours": hours, "requests_per_s": requests_per_s, "gamma_cv": gamma_cv}
    for name, value in positive.items():
        if not (np.isfinite(value) and value > 0.0):
            raise SpecError(name, value, "finite, > 0")
    for name, value in {"zipf": zipf, "timer_jitter_s": timer_jitter_s}.items():
        if not (np.isfinite(value) and value >= 0.0):
            raise SpecError(name, value, "finite, >= 0")
    if not 0.0 <= diurnal_depth <= 1.0:
        raise SpecError("diurnal_depth", diurnal_depth, "0..1")
