"""Tables of the replicas of LLM functions: filled, pointed at, let grow.

Shapes: B rows, L lanes (a pattern for each LLM function, then those for live instances), N
requests.  Units: tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.llm.lane import turn_address
from stoker.envs.cluster.llm.lane_table import LANE
from stoker.envs.cluster.llm.replica import fill
from stoker.envs.cluster.llm.requests import MOST_TOKENS, Requests
from stoker.envs.cluster.llm.tables import LEVELS, MEMBER, PLACE, QUEUE, REQ
from stoker.envs.cluster.llm_spec import pattern
from stoker.envs.cluster.spec import Cluster
from stoker.envs.cluster.tables import NONE
from stoker.envs.workload.workload import Workload

FIRST = 4
"""Replicas that a row has room for at first."""


class Lanes:
    """Replicas of B rows with so many LLM functions each, and their requests."""

    def __init__(self, rows: int, llms: int, batch: int) -> None:
        self.llms, self.batch = llms, batch
        self.tables: dict[str, NDArray[Any]] = {}
        self.req = [np.zeros(0, REQ)] * rows
        self.prompt = [np.zeros(0, np.int32)] * rows
        self._lay_out(rows, llms + FIRST)

    def _lay_out(self, rows: int, lanes: int) -> None:
        shapes = {"queue": (LEVELS, QUEUE), "run": (self.batch, PLACE), "batch": (self.batch, MEMBER)}
        for name, (each, kind) in shapes.items():
            self._widen(name, rows, lanes * each, kind)
        self._widen("lane", rows, lanes, LANE)

    def _widen(self, name: str, rows: int, columns: int, kind: np.dtype[Any]) -> None:
        old = self.tables.get(name, np.zeros((rows, 0), kind))
        more = np.zeros((rows, columns - old.shape[1]), kind)
        self.tables[name] = np.concatenate([old, more], axis=1)

    def load(self, k: int, row: Any, cluster: Cluster, workload: Workload) -> None:
        """Start row k afresh."""
        lane = self.tables["lane"][k]
        lane[:] = np.zeros((), LANE)
        patterns = [pattern(f)[0] for f in cluster.functions if f.llm]
        for at, one in enumerate(patterns):
            lane[at] = one
        row["llms"] = len(patterns)
        self._chain(k, row, self.llms)
        tokens = [
            np.zeros(len(workload), np.int64) if column is None else np.clip(column, 0, MOST_TOKENS - 1)
            for column in (workload.prompt_tokens, workload.output_tokens)
        ]
        requests = Requests(workload.arrival_s, *tokens, np.zeros(len(workload), np.int64))
        self.req[k] = np.zeros(len(workload), REQ)
        fill(self.req[k], requests)
        self.prompt[k] = self.req[k]["prompt"].copy()

    def _chain(self, k: int, row: Any, first: int) -> None:
        """Put the lanes from `first` on among the free ones."""
        lane = self.tables["lane"][k, first:]
        lane["inst"] = NONE
        lane["next"] = np.arange(first + 1, first + len(lane) + 1)
        lane["next"][-1] = row["lane_free"] if first > self.llms else NONE
        row["lane_free"] = first

    def grow(self, rows: NDArray[Any]) -> None:
        """Make room for as many replicas again."""
        b, old = self.tables["lane"].shape
        self._lay_out(b, 2 * old)
        for k in range(b):
            self._chain(k, rows[k], old)

    def point(self, k: int, row: Any) -> None:
        """Write the addresses of all tables into row k and its lanes."""
        lane = self.tables["lane"][k]
        for name in ("queue", "run", "batch"):
            table = self.tables[name]
            each = table.shape[1] // len(lane) * table.itemsize
            lane[name] = table.ctypes.data + k * table.strides[0] + each * np.arange(len(lane))
        lane["req"] = row["llm_req"] = self.req[k].ctypes.data
        row["lane"], row["prompt"] = lane.ctypes.data, self.prompt[k].ctypes.data
        row["turn"] = turn_address()

    def token_times(self, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """When each request of row k got its first token, and its longest wait for another."""
        req = self.req[k]
        return req["first_token"].copy(), np.where(req["max_gap"] < 0.0, np.nan, req["max_gap"])
