"""BurstGPT: calls of ChatGPT and GPT-4 at a campus, with their token counts.

Columns: Timestamp (seconds from midnight of the first day), Model, Request tokens, Response tokens,
Total tokens, Log Type (CC-BY 4.0), gzipped or plain. A function is a model. A call without response
tokens failed; it is left out, and `source` says how many were.

Shapes: N requests.  Units: seconds, tokens.
"""

from __future__ import annotations

from pathlib import Path

from stoker.envs.workload import tables
from stoker.envs.workload.workload import Workload

COLUMNS = {
    "Timestamp": "float",
    "Model": "text",
    "Request tokens": "int",
    "Response tokens": "int",
    "Total tokens": "int",
    "Log Type": "text",
}


def load(path: str | Path) -> Workload:
    """Read a trace as the requests of one function a model.

    Raises:
        SpecError: names the line and the column.
    """
    path = Path(path)
    tables.known(path, COLUMNS)
    data = tables.read(path, COLUMNS)
    tables.some(path, len(data["Timestamp"]))
    arrival_s = tables.times(path, "Timestamp", data["Timestamp"])
    tables.ascending(path, "Timestamp", arrival_s)
    function, names = tables.labels(data["Model"])
    output = tables.counts(path, "Response tokens", data["Response tokens"])
    failed = int((output == 0).sum())
    whole = Workload(
        arrival_s,
        function,
        names,
        max(float(arrival_s[-1]), 1.0),
        prompt_tokens=tables.counts(path, "Request tokens", data["Request tokens"]),
        output_tokens=output,
        source=f"burstgpt {path.name}; {failed} of {len(output)} failed calls left out",
    )
    return whole.where(output > 0)
