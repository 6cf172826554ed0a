"""LLM tokens: many LLM services, each with the bursts and the token counts of a fitted trace.

Functions are by turns like the code and like the conversation service of the Azure LLM inference
trace of 2023: MMPP2 arrivals, stretched in time to the function's rate, and token counts of its
mixtures. A request's service time is that of Llama-3.1-8B alone on an A100, from its tokens with
the figures of the shipped profiles: PROMPT_TOKEN_S a prompt token and STEP_S an output token (the
growing key-value cache, some percent, left out).

Shapes: N requests, F functions.  Units: seconds, requests per second, tokens.
"""

from __future__ import annotations

import numpy as np

from stoker.envs.workload import marginals, processes, synthetic
from stoker.envs.workload.workload import Workload

STEP_S, PROMPT_TOKEN_S = 0.01029, 6.914e-05
"""Of Llama-3.1-8B on A100: envs/cluster/profiles/models.yaml, with its sources."""
FITS = tuple(processes.FITS)


def generate(
    rng: np.random.Generator,
    *,
    functions: int = 20,
    hours: float = 2.0,
    requests_per_s: float = 2.0,
    zipf: float = 1.0,
) -> Workload:
    """Draw the requests of many LLM services.

    Args:
        rng: the only source of randomness.
        functions: number of services, the most popular first; every other one like code.
        hours: length.
        requests_per_s: mean rate of all services together.
        zipf: exponent of popularity.

    Raises:
        SpecError: names the argument.
    """
    synthetic.check_common(functions, hours, requests_per_s, zipf)
    horizon_s = hours * 3600.0
    rates = synthetic.zipf_rates(functions, requests_per_s, zipf)
    drawn, prompts, outputs = [], [], []
    for k, rate in enumerate(rates.tolist()):
        fit = FITS[k % len(FITS)]
        times = processes.mmpp2(rng, processes.FITS[fit].at_rate(rate), horizon_s)
        times = times[processes.within(times, horizon_s)]
        prompt, output = marginals.TOKENS[fit]
        drawn.append(times)
        prompts.append(marginals.tokens(rng, prompt, len(times)))
        outputs.append(marginals.tokens(rng, output, len(times)))
    arrival_s = np.concatenate(drawn)
    order = arrival_s.argsort(kind="stable")
    function = np.arange(functions, dtype=np.int32).repeat([len(times) for times in drawn])
    prompt_tokens, output_tokens = np.concatenate(prompts)[order], np.concatenate(outputs)[order]
    return Workload(
        arrival_s[order],
        function[order],
        synthetic.names(functions),
        horizon_s,
        PROMPT_TOKEN_S * prompt_tokens + STEP_S * output_tokens,
        prompt_tokens,
        output_tokens,
        source=f"{synthetic.VERSION} llm_tokens; {functions} services, {hours:g} h, "
        f"{requests_per_s:g}/s, zipf {zipf:g}",
    )
