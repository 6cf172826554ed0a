"""The score table of a run on an id with ticks, as Markdown: `scores.md` in the run folder.

Shapes: N problems.  Units: dollars.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stoker.agents import stats
from stoker.agents.tick_problems import Problem
from stoker.agents.wording import percent
from stoker.baselines.bounds.best_case import best_case
from stoker.baselines.bounds.lagrangian import lower_bound

BOUND = "bound"
RELAXED = (
    "The bound is clairvoyant and a relaxation: all GPUs are one memory at the lowest price, links "
    "do not queue, host memory has no limit, a batch takes no longer than its longest request."
)
Costs = dict[str, list[float]]


def bounds(problems: Sequence[Problem]) -> list[float]:
    """Clairvoyant lower bound of each problem. Shape: (N,)"""
    cases = (best_case(cluster, workload, faults) for cluster, workload, faults in problems)
    return [lower_bound(cluster, workload).total_usd for cluster, workload in cases]


def table(costs: Costs, learned: str, parameters: dict[str, str], seed: int) -> str:
    """Policies by their mean dollars, with intervals over problems, against the learned one.

    Args:
        costs: every policy's dollars, problem by problem; may hold `BOUND`.
        learned: name of the policy that the others are held against.
        parameters: what to say of a policy's setting, by name.
        seed: of the bootstrap.
    """
    draws = stats.resample(len(costs[learned]), np.random.default_rng(seed))
    lines = [
        "| policy | $ an episode | its cost over the learned policy's | setting |",
        "| --- | --- | --- | --- |",
    ]
    for name, usd in sorted(costs.items(), key=lambda item: float(np.mean(item[1]))):
        mean = stats.mean(usd, draws)
        ratio = stats.paired_ratio(usd, costs[learned], draws, "geomean")
        apart = "" if name == learned else _apart(ratio)
        shown = f"**{name}**" if name == learned else name
        dollars = f"{mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}]"
        lines.append(f"| {shown} | {dollars} | {apart} | {parameters.get(name, '')} |")
    return "\n".join(lines)


def _apart(ratio: stats.Interval) -> str:
    value, low, high = (percent(x - 1.0, sign=True) for x in (ratio.value, ratio.low, ratio.high))
    return f"{value} [{low}, {high}]"


def page(
    test: Costs, validation: Costs, stages: dict[str, float], parameters: dict[str, str],
    learned: str, seed: int,
) -> str:  # fmt: skip
    """Both tables, and the stages of the training."""
    count, base = len(test[learned]), stages["heuristic"]
    kept = [f"| {name} | {np.exp(cost - base):.4f} |" for name, cost in stages.items()]
    return "\n".join(
        [
            f"Test problems ({count}; they chose nothing), 95 % bootstrap intervals over problems,",
            "paired; ratios are geometric means:", "",
            table(test, learned, parameters, seed), "", RELAXED, "",
            "The validation problems, which chose the stage that is deployed:", "",
            table(validation, learned, {}, seed), "",
            "Stages of the training, cost over the heuristic's on the validation problems:", "",
            "| stage | ratio |", "| --- | --- |", *kept, "",
        ]
    )  # fmt: skip
