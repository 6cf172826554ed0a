"""Figures of the tokens that LLM functions put out.

Shapes: N requests.  Units: seconds.
"""

from __future__ import annotations

import numpy as np

from stoker.envs.cluster.outcome import PERCENTILES, Outcome, percentiles
from stoker.envs.workload import Workload

NAMES = {"ttft": "first token", "tbt": "between tokens", "max_tbt": "longest between"}
"""From arrival to the first token; between two tokens, mean of a request; the longest of them."""


def token_figures(outcome: Outcome, workload: Workload) -> dict[str, float]:
    """Percentiles over the requests that have such a figure, by name; none without LLMs.

    Args:
        outcome: of the last requests of the workload.
        workload: with its token counts.
    """
    first_s, gap_s, output = outcome.first_token_s, outcome.max_tbt_s, workload.output_tokens
    if first_s is None or gap_s is None or output is None:
        return {}
    output = output[len(output) - len(first_s) :]
    columns = {
        "ttft": first_s - outcome.arrival_s,
        "tbt": (outcome.finish_s - first_s) / np.where(output > 1, output - 1.0, np.nan),
        "max_tbt": gap_s,
    }
    return {
        f"{name}_p{p}_s": value
        for name, column in columns.items()
        for p, value in zip(
            PERCENTILES, percentiles(column[np.isfinite(column)], PERCENTILES), strict=True
        )
    }
