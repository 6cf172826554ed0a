"""Token counts of a data set without times, such as arXiv summarisation as Vidur ships it (MIT).

Columns: num_prefill_tokens, num_decode_tokens; num_total_tokens and pd_ratio follow from them and
are not read. Arrivals are a Poisson process, and each request takes the counts of a line drawn with
replacement, both at once, so that their correlation stays.

Shapes: L lines, N requests.  Units: seconds, requests per second, tokens.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import require
from stoker.envs.workload import processes, tables
from stoker.envs.workload.workload import Workload

USED = {"num_prefill_tokens": "int", "num_decode_tokens": "int"}
COLUMNS = (*USED, "num_total_tokens", "pd_ratio")


def read(path: str | Path) -> NDArray[np.int32]:
    """Read the counts of every line: prompt, output. Shape: (L, 2)."""
    path = Path(path)
    tables.known(path, COLUMNS)
    data = tables.read(path, USED)
    lengths = np.stack([tables.counts(path, c, data[c]) for c in USED], axis=1)
    tables.some(path, len(lengths))
    return lengths


def load(
    path: str | Path,
    *,
    rng: np.random.Generator,
    requests_per_s: float = 1.0,
    hours: float = 1.0,
    name: str = "llm",
) -> Workload:
    """Draw requests of one function with the token counts of a file.

    Args:
        path: the counts, gzipped or plain.
        rng: draws arrivals and lines.
        requests_per_s: mean rate.
        hours: length of the workload.
        name: the function's name.

    Raises:
        SpecError: names the line and the column, or the option.
    """
    for label, value in (("requests_per_s", requests_per_s), ("hours", hours)):
        require(math.isfinite(value) and value > 0.0, label, value, "finite, > 0")
    lengths = read(path)
    horizon_s = hours * 3600.0
    arrival_s = processes.poisson(rng, requests_per_s, horizon_s)
    drawn = lengths[rng.integers(len(lengths), size=len(arrival_s))]
    return Workload(
        arrival_s,
        np.zeros(len(arrival_s), np.int32),
        (name,),
        horizon_s,
        prompt_tokens=drawn[:, 0].copy(),
        output_tokens=drawn[:, 1].copy(),
        source=f"token_lengths {Path(path).name}; Poisson {requests_per_s:g}/s, {hours:g} h",
    )
