"""Azure LLM inference traces (2023, 2024): time stamps and token counts of one service.

Columns: TIMESTAMP, ContextTokens, GeneratedTokens (CC-BY 4.0), gzipped or plain.

Shapes: N requests.  Units: seconds from the first request, tokens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import tables
from stoker.envs.workload.workload import Workload

COLUMNS = {"TIMESTAMP": "time", "ContextTokens": "int", "GeneratedTokens": "int"}


def load(path: str | Path, *, name: str = "llm", horizon_s: float | None = None) -> Workload:
    """Read a trace as the requests of one function; time 0 is the first request.

    Args:
        path: the CSV file.
        name: the function's name.
        horizon_s: end of the workload; the last arrival if not given.

    Raises:
        SpecError: names the line and the column.
    """
    path = Path(path)
    tables.known(path, COLUMNS)
    data = tables.read(path, COLUMNS)
    stamps = data["TIMESTAMP"]
    tables.some(path, len(stamps))
    if not str(stamps.type).startswith("timestamp"):
        raise SpecError(f"{path.name}: TIMESTAMP", stamps[0].as_py(), "YYYY-MM-DD HH:MM:SS")
    ticks = stamps.to_numpy().astype("datetime64[ns]").astype(np.int64)
    late = np.flatnonzero(np.diff(ticks) < 0)
    if len(late):
        line = int(late[0]) + 1 + tables.FIRST_LINE
        raise SpecError(f"{path.name}:{line} TIMESTAMP", str(stamps[int(late[0]) + 1]), "in order")
    arrival_s = (ticks - ticks[0]) / 1e9
    return Workload(
        arrival_s,
        np.zeros(len(arrival_s), np.int32),
        (name,),
        float(arrival_s[-1]) if horizon_s is None else horizon_s,
        prompt_tokens=tables.counts(path, "ContextTokens", data["ContextTokens"]),
        output_tokens=tables.counts(path, "GeneratedTokens", data["GeneratedTokens"]),
        source=f"azure_llm {path.name}",
    )
