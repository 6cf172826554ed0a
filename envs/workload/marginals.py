"""Published distributions that stand in for what a trace lacks.

Durations: lognormal fit to the mean durations of 7,162 functions (those above 0 ms of a sample of
7,500) of the Azure Functions trace of 2019, CC-BY 4.0. Tokens: mixtures of two lognormals fitted
to the Azure LLM inference trace of 2023, CC-BY 4.0; Kolmogorov-Smirnov distances in the table.

Shapes: N draws.  Units: seconds, tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DURATION_LOG_MEAN = -0.2200
DURATION_LOG_SD = 2.2431


@dataclass(frozen=True)
class Lognormal2:
    """A mixture of two lognormals."""

    weight: float
    """Of the first."""
    medians: tuple[float, float]
    sigmas: tuple[float, float]
    limits: tuple[int, int]
    """Smallest and largest value in the trace; draws are clipped to them."""


TOKENS = {
    # name: (prompt, output); KS .030 .066 | .153 .057
    "azure_llm_2023_code": (
        Lognormal2(0.3055, (249.2, 2100.2), (1.3069, 0.7243), (3, 7437)),
        Lognormal2(0.6587, (10.6, 36.8), (0.3829, 0.899), (6, 1899)),
    ),
    "azure_llm_2023_conv": (
        Lognormal2(0.0139, (20.0, 800.0), (0.6968, 0.8876), (2, 14050)),
        Lognormal2(0.7234, (103.7, 406.0), (0.7098, 0.0486), (7, 1000)),
    ),
}


def durations_s(
    rng: np.random.Generator, n: int, low_s: float, high_s: float
) -> NDArray[np.float64]:
    """Draw mean durations of functions, clipped. Shape: (N,)."""
    return rng.lognormal(DURATION_LOG_MEAN, DURATION_LOG_SD, n).clip(low_s, high_s)


def tokens(rng: np.random.Generator, mixture: Lognormal2, n: int) -> NDArray[np.int32]:
    """Draw token counts. Shape: (N,)."""
    second = (rng.random(n) >= mixture.weight).astype(np.int64)
    log_median = np.log(np.array(mixture.medians))[second]
    drawn = np.exp(log_median + rng.normal(size=n) * np.array(mixture.sigmas)[second])
    low, high = mixture.limits
    return np.asarray(np.clip(np.rint(drawn), low, high), np.int32)
