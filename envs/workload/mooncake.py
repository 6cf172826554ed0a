"""Mooncake: requests to Kimi, a chat service, with the lengths of prompts and answers.

One JSON object a line, `{"timestamp", "input_length", "output_length", "hash_ids"}` (Apache-2.0),
gzipped or plain. `timestamp` is in milliseconds and quantised to about 3 s in the public traces:
requests of one tick stay together. `hash_ids` (blocks of 512 tokens that prompts share) is not
used: a workload has no prefixes.

Shapes: N requests.  Units: seconds, tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import tables
from stoker.envs.workload.workload import Workload

FIELDS = ("timestamp", "input_length", "output_length")


def load(path: str | Path, *, name: str = "kimi") -> Workload:
    """Read a trace as the requests of one function; time 0 is that of the file.

    Raises:
        SpecError: names the line and the field.
    """
    path = Path(path)
    lines = tables.text(path).splitlines()
    tables.some(path, len(lines))
    rows = np.array([_row(path, at, line) for at, line in enumerate(lines, 1)], np.int64)
    late = np.flatnonzero(np.diff(rows[:, 0]) < 0)
    if len(late):
        at = int(late[0]) + 1
        raise SpecError(
            f"{path.name}:{at + 1} timestamp", int(rows[at, 0]), f">= {rows[at - 1, 0]} before it"
        )
    arrival_s = rows[:, 0] / 1000.0
    return Workload(
        arrival_s,
        np.zeros(len(rows), np.int32),
        (name,),
        max(float(arrival_s[-1]), 1.0),
        prompt_tokens=rows[:, 1].astype(np.int32),
        output_tokens=rows[:, 2].astype(np.int32),
        source=f"mooncake {path.name}",
    )


def _row(path: Path, at: int, line: str) -> list[int]:
    """Return the three numbers of a line."""
    try:
        entry: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise SpecError(f"{path.name}:{at}", line[:40], f"a JSON object ({error.msg})") from error
    row = []
    for field in FIELDS:
        if not isinstance(entry, dict) or field not in entry:
            raise SpecError(f"{path.name}:{at} field", field, f"an object with {', '.join(FIELDS)}")
        value = entry[field]
        if not (type(value) is int and 0 <= value < 2**31):
            raise SpecError(f"{path.name}:{at} {field}", value, "an integer in 0..2^31-1")
        row.append(value)
    return row
