"""The keep-alive oracle data: where they lie, and their cases as arrays.

Shapes: N requests, F functions.  Units: seconds, MB.
"""

from __future__ import annotations

import csv
import functools
import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

LETTERS = np.array([ord(c) for c in "HMD"], np.uint8)
POLICIES = {
    "GD": ("greedy_dual", np.inf), "TTL": ("ttl", 600.0), "LONG-TTL": ("ttl", 7200.0),
    "LRU": ("lru", np.inf), "FREQ": ("freq", np.inf), "SIZE": ("size", np.inf),
}  # fmt: skip
"""Name in the oracle files: name of ours and keep-alive. HIST and LND are not ours."""
Row = dict[str, str]


def find_folder() -> Path | None:
    """Folder of the oracle data: beside what STOKER_DATA names, or beside the checkout."""
    named = os.environ.get("STOKER_DATA")
    roots = [Path(named).parent] if named else []
    roots += [p / "shared" / "data" for p in Path(__file__).resolve().parents]
    for root in roots:
        if (root / "oracles" / "keepalive" / "faascache_sim_results.csv").is_file():
            return root / "oracles" / "keepalive"
    return None


FOLDER = find_folder()
needs_oracles = pytest.mark.skipif(
    FOLDER is None, reason="no oracle data (shared/data/oracles) beside the checkout or STOKER_DATA"
)


def rows(name: str) -> list[Row]:
    """Rows of one file; none where the data are absent, so that collection never fails."""
    if FOLDER is None:
        return []
    with open(FOLDER / name, newline="") as lines:
        return list(csv.DictReader(lines))


@dataclass(frozen=True)
class Trace:
    """One trace with its function table."""

    arrival_s: NDArray[np.float64]
    function: NDArray[np.int32]
    ids: tuple[str, ...]
    memory_mb: NDArray[np.float64]
    warm_s: NDArray[np.float64]
    init_s: NDArray[np.float64]


@functools.cache
def trace(name: str) -> Trace:
    """Read a trace."""
    table, calls = rows(f"functions/{name}.csv"), rows(f"traces/{name}.csv")
    ids = tuple(r["function_id"] for r in table)
    columns = [np.array([float(r[k]) for r in table]) for k in ("memory_mb", "warm_s", "init_s")]
    return Trace(
        np.array([float(r["arrival_s"]) for r in calls]),
        np.array([ids.index(r["function_id"]) for r in calls], np.int32),
        ids,
        *columns,
    )


@functools.cache
def outcomes(name: str) -> dict[str, dict[str, str]]:
    """Outcome strings of the public simulator by policy and capacity."""
    assert FOLDER is not None
    with gzip.open(FOLDER / "outcomes" / f"{name}.json.gz", "rt") as text:
        found: dict[str, dict[str, str]] = json.load(text)
    return found


def letters(outcome: NDArray[np.uint8]) -> str:
    """Outcomes as the oracle files write them."""
    return LETTERS[outcome].tobytes().decode()


def label(row: Row) -> str:
    """Name of a case."""
    return "-".join(row[k] for k in ("trace", "policy", "capacity_mb"))


def band(values: list[float], requests: int) -> tuple[float, float]:
    """The tolerance that the oracles' README suggests for a count seen to take these values."""
    width = max(2.0, 0.005 * requests, 0.5 * (max(values) - min(values)))
    return min(values) - width, max(values) + width
