"""Published distributions that stand in for what a trace lacks.

Durations: lognormal fit to the mean durations of 7,162 functions (those above 0 ms of a sample of
7,500) of the Azure Functions trace of 2019, CC-BY 4.0. Tokens: mixtures of two lognormals fitted
to the Azure LLM inference trace of 2023, CC-BY 4.0. Latencies: likewise, of serverless diffusion
models (Alibaba GenAI trace of 2026). How far each is from its trace: docs/workloads.md.

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
    limits: tuple[float, float]
    """Smallest and largest value in the trace; draws are clipped to them."""


TOKENS = {
    # name: (prompt, output)
    "azure_llm_2023_code": (
        Lognormal2(0.3055, (249.2, 2100.2), (1.3069, 0.7243), (3, 7437)),
        Lognormal2(0.6587, (10.6, 36.8), (0.3829, 0.899), (6, 1899)),
    ),
    "azure_llm_2023_conv": (
        Lognormal2(0.0139, (20.0, 800.0), (0.6968, 0.8876), (2, 14050)),
        Lognormal2(0.7234, (103.7, 406.0), (0.7098, 0.0486), (7, 1000)),
    ),
}

LATENCIES_S = {
    "basemodel_update": Lognormal2(0.3578, (2.9554, 30.9941), (0.3343, 0.3173), (1.329, 79.436)),
    "lora_update": Lognormal2(0.1249, (1.6729, 4.5478), (0.7356, 0.2415), (0.631, 38.703)),
    "controlnet": Lognormal2(0.2111, (3.4724, 3.9472), (1.2432, 0.3865), (0.198, 80.894)),
    "pipeline_update": Lognormal2(0.3525, (7.8484, 10.8379), (0.2664, 0.9142), (0.0, 107.557)),
    "pipeline_inference": Lognormal2(0.7624, (14.9147, 19.9541), (0.2554, 0.8016), (0.912, 90.741)),
    "model_predict": Lognormal2(0.4909, (16.5604, 54.8176), (0.5455, 0.3483), (2.893, 156.348)),
}
"""Of diffusion models: loading a base model, a LoRA, a ControlNet, a whole pipeline; the inference
of a pipeline; a request from end to end."""


def durations_s(
    rng: np.random.Generator, n: int, low_s: float, high_s: float
) -> NDArray[np.float64]:
    """Draw mean durations of functions, clipped. Shape: (N,)."""
    return rng.lognormal(DURATION_LOG_MEAN, DURATION_LOG_SD, n).clip(low_s, high_s)


def tokens(rng: np.random.Generator, mixture: Lognormal2, n: int) -> NDArray[np.int32]:
    """Draw token counts. Shape: (N,)."""
    low, high = mixture.limits
    return np.asarray(np.clip(np.rint(_draw(rng, mixture, n)), low, high), np.int32)


def latencies_s(rng: np.random.Generator, mixture: Lognormal2, n: int) -> NDArray[np.float64]:
    """Draw latencies. Shape: (N,)."""
    return _draw(rng, mixture, n).clip(*mixture.limits)


def _draw(rng: np.random.Generator, mixture: Lognormal2, n: int) -> NDArray[np.float64]:
    second = (rng.random(n) >= mixture.weight).astype(np.int64)
    log_median = np.log(np.array(mixture.medians))[second]
    drawn: NDArray[np.float64] = np.exp(
        log_median + rng.normal(size=n) * np.array(mixture.sigmas)[second]
    )
    return drawn
