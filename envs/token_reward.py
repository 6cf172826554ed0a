"""What LLM functions cost whose token budget is set: named terms, in requests.

| term | weight | cost |
| --- | --- | --- |
| wait | 0.1 | time that requests waited for their first token, in targets of it, 10 each at most |
| first | 1 | requests whose first token is late, charged when its target passes |
| between | 3 | tokens that came later than their target after the one before, in outputs |
| drop | 1 | requests refused |

The output of a request counts as one: a third of it late weighs as much as a late first token.

Shapes: F functions, T terms.  Units: seconds, tokens; costs in requests.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.llm_spec import Llm
from stoker.envs.cluster.observe_tokens import TERMS
from stoker.envs.cluster.outcome import Outcome, Result, percentiles
from stoker.envs.cluster.spec import Cluster
from stoker.envs.cluster.tables import DROPPED, FAILED
from stoker.envs.cluster.token_scan import MOST_WAIT
from stoker.envs.workload import Workload

Floats = NDArray[np.float64]
WEIGHTS = {"wait": 0.1, "first": 1.0, "between": 3.0, "drop": 1.0}
"""Of the costs, unless others are given."""
SHOWN = (50, 99)


def check_functions(cluster: Cluster) -> list[Llm]:
    """Return how the functions serve.

    Raises:
        SpecError: one is no LLM whose prompts are cut, or has no targets.
    """
    found = []
    for f in cluster.functions:
        at = f"function[{f.name}].llm"
        if f.llm is None or f.llm.scheduler != "sarathi":
            raise SpecError(at, f.llm, "an Llm with scheduler=sarathi here")
        for name in ("ttft_s", "tbt_s"):
            if not np.isfinite(getattr(f.llm, name)):
                raise SpecError(f"{at}.{name}", getattr(f.llm, name), "finite here")
        found.append(f.llm)
    return found


def waits_s(outcome: Outcome, horizon_s: float) -> Floats:
    """How long each request has waited for its first token; refused ones not at all. Shape: (N,)"""
    assert outcome.first_token_s is not None
    until_s = np.where(np.isnan(outcome.first_token_s), horizon_s, outcome.first_token_s)
    refused = (outcome.tier == DROPPED) | (outcome.tier == FAILED)
    waited: Floats = np.where(refused, 0.0, until_s - outcome.arrival_s)
    return waited


def episode_costs(
    result: Result, cluster: Cluster, workload: Workload, warmup_s: float = 0.0
) -> Floats:
    """Costs of what one run came to, by function and term. Shape: (F, T)"""
    seen, llms = result.outcome, check_functions(cluster)
    assert seen.late_tokens is not None
    assert workload.output_tokens is not None
    target_s = np.array([llm.ttft_s for llm in llms])[seen.function]
    waited_s = waits_s(seen, result.horizon_s)
    scored = (seen.arrival_s >= warmup_s) & (seen.arrival_s <= result.horizon_s)
    columns = {
        "wait": np.minimum(waited_s / target_s, MOST_WAIT),
        "first": waited_s > target_s,
        "between": seen.late_tokens / np.maximum(workload.output_tokens - 1, 1),
        "drop": (seen.tier == DROPPED) | (seen.tier == FAILED),
    }
    count = len(cluster.functions)
    parts = [
        np.bincount(seen.function[scored], columns[name][scored].astype(float), count)
        for name in TERMS
    ]
    return np.stack(parts, axis=1)


def figures(
    result: Result, cluster: Cluster, workload: Workload, warmup_s: float
) -> dict[str, float]:
    """Summarise a run: costs by name, all of them weighted, percentiles of its waits."""
    costs = dict(
        zip(TERMS, episode_costs(result, cluster, workload, warmup_s).sum(axis=0), strict=True)
    )
    seen = result.outcome
    assert seen.max_tbt_s is not None
    first_s = waits_s(seen, result.horizon_s)[seen.arrival_s >= warmup_s]
    longest_s = seen.max_tbt_s[np.isfinite(seen.max_tbt_s)]
    out = {f"{name}_cost": float(cost) for name, cost in costs.items()}
    out["cost"] = float(sum(WEIGHTS[name] * cost for name, cost in costs.items()))
    for name, values in (("ttft", first_s), ("max_tbt", longest_s)):
        for p, value in zip(SHOWN, percentiles(values, SHOWN), strict=True):
            out[f"{name}_p{p}_s"] = value
    return out
