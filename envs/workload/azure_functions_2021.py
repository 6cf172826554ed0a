"""Azure Functions 2021: two weeks of single invocations, each with its end and its duration.

Columns: app, func, end_timestamp, duration (CC-BY 4.0), seconds, gzipped or plain; the public file
is a rar archive that has to be unpacked first. A request arrives when its invocation starts, at
end_timestamp - duration, and time 0 is the first such start. The lines are in order of the starts,
but for the columns being rounded each for itself: starts may be out of order by ROUNDING_S.
A function is `func`, which is unique within the trace.

Shapes: N requests.  Units: seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import tables
from stoker.envs.workload.workload import Workload

COLUMNS = {"app": "text", "func": "text", "end_timestamp": "float", "duration": "float"}
ROUNDING_S = 0.01
"""Durations have three digits."""


def load(path: str | Path) -> Workload:
    """Read a trace; a request's service time is its duration.

    Raises:
        SpecError: names the line and the column.
    """
    path = Path(path)
    tables.known(path, COLUMNS)
    data = tables.read(path, COLUMNS)
    tables.some(path, len(data["func"]))
    end_s = tables.times(path, "end_timestamp", data["end_timestamp"])
    service_s = tables.times(path, "duration", data["duration"])
    start_s = end_s - service_s
    late = np.flatnonzero(np.diff(start_s) < -ROUNDING_S)
    if len(late):
        at = int(late[0]) + 1
        field = f"{path.name}:{at + tables.FIRST_LINE} end_timestamp - duration"
        raise SpecError(field, float(start_s[at]), f">= {start_s[at - 1]} of the line before")
    order = start_s.argsort(kind="stable")
    arrival_s = start_s[order] - start_s.min()
    function, names = tables.labels(data["func"])
    return Workload(
        arrival_s,
        function[order],
        names,
        max(float(arrival_s[-1]), 1.0),
        service_s[order],
        source=f"azure_functions_2021 {path.name}",
    )
