"""How far the generators are from the real traces: Kolmogorov-Smirnov distances and dispersion.

    python tests/workload/fits.py   # the rows of the tables in docs/workloads.md

Shapes: N requests.  Units: seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from stoker.envs.workload import (
    alibaba_genai_2026,
    azure_llm,
    catalogue,
    marginals,
    processes,
)

Find = Callable[[str], Path]
Array = np.ndarray[Any, Any]
LONG_S = 400_000.0
"""So long are the arrivals that are compared, for the draw's own noise not to count."""
DRAWS = 400_000


@dataclass(frozen=True)
class Fit:
    """One generator against its trace."""

    name: str
    published: float
    """Distance in generator_fits.json."""
    reached: float


def fits_json() -> dict[str, Any] | None:
    """Read the fits, where they are on this machine."""
    for folder in catalogue.data_folders():
        if (folder / "generator_fits.json").is_file():
            loaded: dict[str, Any] = json.loads((folder / "generator_fits.json").read_text())
            return loaded
    return None


def distance(a: Array, b: Array) -> float:
    return float(ks_2samp(a, b).statistic)


def per_window(times: Array, span_s: float, window_s: float) -> Array:
    """Requests in each whole window."""
    edges = np.arange(0.0, span_s + 1e-9, window_s)
    return np.histogram(times, edges)[0]


def dispersion(times: Array, span_s: float, window_s: float) -> float:
    counts = per_window(times, span_s, window_s)
    return float(counts.var() / counts.mean())


def arrivals(published: dict[str, Any], find: Find) -> tuple[list[Fit], dict[str, list[float]]]:
    """Compare the MMPP2 fits: gaps, counts a second, and dispersion by window (real, drawn)."""
    fits, spread = [], {}
    for name, process in processes.FITS.items():
        real = azure_llm.load(find(name))
        times, span_s = real.arrival_s, real.horizon_s
        drawn = processes.mmpp2(np.random.default_rng(0), process, LONG_S)
        drawn = drawn[processes.within(drawn, LONG_S)]
        file = published[name]["mmpp2"]
        gaps = distance(np.diff(times), np.diff(drawn))
        counts = distance(per_window(times, span_s, 1.0), per_window(drawn, LONG_S, 1.0))
        fits += [Fit(f"{name} gaps", file["ks_iat"], gaps)]
        fits += [Fit(f"{name} counts a second", file["ks_counts_1s"], counts)]
        for window_s in (1, 10, 60):
            both = [dispersion(times, span_s, window_s), dispersion(drawn, LONG_S, window_s)]
            spread[f"{name} {window_s} s"] = both
    return fits, spread


def tokens(published: dict[str, Any], find: Find) -> list[Fit]:
    """Compare the token mixtures."""
    out, rng = [], np.random.default_rng(0)
    for name, mixtures in marginals.TOKENS.items():
        real = azure_llm.load(find(name))
        columns = {"ContextTokens": real.prompt_tokens, "GeneratedTokens": real.output_tokens}
        for (column, values), mixture in zip(columns.items(), mixtures, strict=True):
            assert values is not None
            drawn = marginals.tokens(rng, mixture, DRAWS)
            file = published[f"{name}_{column}_lognormal2"]["ks"]
            out.append(Fit(f"{name} {column}", file, distance(values, drawn)))
    return out


def latencies(published: dict[str, Any], find: Find) -> list[Fit]:
    """Compare the latencies of diffusion models."""
    out, rng = [], np.random.default_rng(0)
    for name, mixture in marginals.LATENCIES_S.items():
        known = next(key for key in published if key.startswith(f"genai_{name}"))
        file = known.removeprefix("genai_").removesuffix("_anon")
        real = alibaba_genai_2026.latencies_s(find(f"alibaba_genai_2026_{file}"))
        drawn = marginals.latencies_s(rng, mixture, DRAWS)
        # Zeros (7.3 % of the updates of a pipeline: nothing to do) are no part of the mixture.
        reached = distance(real[real > 0.0], drawn[drawn > 0.0])
        out.append(Fit(known, published[known]["ks"], reached))
    return out


def gaps_a_model(published: dict[str, Any], find: Find) -> Fit:
    """Compare gaps of each base model, over its mean gap, with the one lognormal of `diffusion`."""
    from stoker.envs.workload.diffusion import SIGMA

    w = alibaba_genai_2026.load(find("alibaba_genai_2026"))
    found, rng = [], np.random.default_rng(0)
    for fn in range(len(w.names)):
        gaps = np.diff(w.arrival_s[w.function == fn])
        gaps = gaps[gaps > 0.0]
        if len(gaps) >= 50:
            drawn = np.diff(processes.lognormal(rng, 1.0 / gaps.mean(), DRAWS * gaps.mean(), SIGMA))
            found.append(distance(gaps, drawn))
    file = published["genai_per_model_iat"]["lognormal_ks_median"]
    return Fit(f"gaps of {len(found)} base models, median", file, float(np.median(found)))


def triggers(published: dict[str, Any]) -> dict[str, list[float]]:
    """Median coefficient of variation of the gaps of what each process stands for (file, drawn)."""
    rng, out = np.random.default_rng(0), {}
    by_trigger = published["azure_functions_by_trigger"]
    draws: dict[str, tuple[str, Callable[[float], Array]]] = {
        "timer": ("timer", lambda rate: processes.timer(rng, 1.0 / rate, 28_800.0, 1.0)),
        "http": ("poisson", lambda rate: processes.poisson(rng, rate, 28_800.0)),
        "queue": ("gamma, cv 4", lambda rate: processes.gamma(rng, rate, 28_800.0, 4.0)),
        "event": (
            "mmpp2",
            lambda rate: processes.mmpp2(
                rng, processes.FITS["azure_llm_2023_code"].at_rate(rate), 28_800.0
            ),
        ),
    }
    for trigger, (process, draw) in draws.items():
        rate = by_trigger[trigger]["median_rate_per_h"] / 3600.0
        cvs = []
        for _ in range(400):  # eight hours each, as the trace is
            times = draw(rate)
            gaps = np.diff(times[processes.within(times, 28_800.0)])
            if len(gaps) >= 9:
                cvs.append(gaps.std() / gaps.mean())
        out[f"{trigger} as {process}"] = [
            by_trigger[trigger]["iat_cv_median"], float(np.median(cvs))
        ]  # fmt: skip
    return out


def show() -> None:
    published = fits_json()
    if published is None:
        raise SystemExit("generator_fits.json of the traces is not on this machine")

    def find(name: str) -> Path:
        path = catalogue.locate(name)
        if path is None:
            raise SystemExit(f"trace {name} is not on this machine")
        return path

    fits, spread = arrivals(published, find)
    fits += [*tokens(published, find), *latencies(published, find), gaps_a_model(published, find)]
    for fit in fits:
        print(f"| {fit.name} | {fit.published:.3f} | {fit.reached:.3f} |")
    for name, (real, drawn) in {**spread, **triggers(published)}.items():
        print(f"| {name} | {real:.2f} | {drawn:.2f} |")


if __name__ == "__main__":
    show()
