"""Service time of a batch of b, alpha_s + beta_s x b: coefficients and rules of models.yaml.

Units: seconds, tokens, GiB, GiB/s, TFLOP/s.
"""

from __future__ import annotations

import math
from typing import Any

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.profiles.figure import (
    EXTRAPOLATED,
    Figure,
    computed,
    entry,
    figure,
    gpu_figures,
    table,
)
from stoker.envs.cluster.spec import GIB

Times = tuple[Figure, Figure]
"""alpha_s and beta_s."""


def times(
    model: str, gpu: str, *, dtype: str, prompt_tokens: float, output_tokens: float, gpus: int = 1
) -> Times:
    """Find the service time of a model on a GPU class, or on several such GPUs together.

    Raises:
        SpecError: there are no coefficients, and no rule gives them.
    """
    known = entry("models", model, "model")
    if gpus > 1 and (dtype != "bf16" or f"{gpu}x{gpus}" not in known.get("iteration", {})):
        accepted = "a time of yours (none was measured, and no rule gives one)"
        raise SpecError(f"profile of {model} on {gpus} x {gpu}: alpha_s", None, accepted)
    if known["kind"] != "decoder-llm":
        return _batch(model, gpu)
    for name, tokens in (("prompt_tokens", prompt_tokens), ("output_tokens", output_tokens)):
        if not (math.isfinite(tokens) and tokens >= 1.0):
            raise SpecError(name, tokens, "finite, >= 1")
    on = gpu if gpus == 1 else f"{gpu}x{gpus}"
    step, sequence, cache_token, prompt_token = _iteration(model, on, dtype)
    # The pass over the prompt yields the first token.
    steps = output_tokens - 1.0
    held = prompt_tokens + output_tokens / 2.0
    beta_s = prompt_tokens * prompt_token.value
    beta_s += steps * (sequence.value + held * cache_token.value)
    return (
        computed(steps * step.value, step, at_best="measured"),
        computed(beta_s, sequence, cache_token, prompt_token, at_best="measured"),
    )


def _iteration(model: str, gpu: str, dtype: str) -> tuple[Figure, ...]:
    """step_s, sequence_s, cache_token_s and prompt_token_s of a decoder LLM."""
    names = ("step_s", "sequence_s", "cache_token_s", "prompt_token_s")
    known = entry("models", model, "model")
    if dtype == "bf16" and gpu in known.get("iteration", {}):
        return tuple(figure(known["iteration"][gpu][name]) for name in names)
    device = gpu_figures(gpu)
    weights, layers = figure(known["weights_gib"][dtype]), figure(known["layers"])
    cache_bytes, params = figure(known["cache_bytes"]), figure(known["params"])
    active = figure(known["active_params"]) if "active_params" in known else params
    at_best = "derived" if dtype == "bf16" and active is params else EXTRAPOLATED
    read_gib = weights.value * active.value / params.value
    rate, layer, tflops = device["weights_gib_s"], device["layer_s"], device["matmul_tflops"]
    step_s = read_gib / rate.value + layers.value * layer.value
    token = computed(2e-12 * active.value / tflops.value, active, tflops, at_best=at_best)
    cached_s = cache_bytes.value / GIB / device["cache_gib_s"].value
    return (
        computed(step_s, weights, layers, rate, layer, at_best=at_best),
        token,
        computed(cached_s, cache_bytes, device["cache_gib_s"], at_best=at_best),
        token,
    )


def _batch(model: str, gpu: str) -> Times:
    """Coefficients measured by batch, or carried over from the nearest class or a like model."""
    known = entry("models", model, "model")
    if "like" in known:
        like = entry("models", known["like"], "model")
        alpha, beta = _batch(known["like"], gpu)
        return (
            _scaled(alpha, figure(known["layers"]), figure(like["layers"])),
            _scaled(beta, figure(known["gflop"]), figure(like["gflop"])),
        )
    measured: dict[str, Any] = known.get("batch", {})
    if not measured:
        accepted = "a time of yours (none was measured, and no rule gives one)"
        raise SpecError(f"profile of {model} on {gpu}: alpha_s", None, accepted)
    tflops = {name: figure(raw["dense_tflops"]) for name, raw in table("gpus").items()}
    here = tflops[gpu]
    nearest = min(measured, key=lambda name: abs(math.log(tflops[name].value / here.value)))
    coefficients = measured[nearest]
    beta = figure(coefficients["beta_s"])
    alpha = figure(coefficients["alpha_s"]) if "alpha_s" in coefficients else computed(0.0, beta)
    if nearest == gpu:
        return alpha, beta
    alpha = computed(alpha.value, alpha, at_best=EXTRAPOLATED)
    return alpha, _scaled(beta, tflops[nearest], here)


def _scaled(base: Figure, more: Figure, less: Figure) -> Figure:
    """Multiply a figure by a ratio of two others."""
    value = base.value * more.value / less.value
    return computed(value, base, more, less, at_best=EXTRAPOLATED)
