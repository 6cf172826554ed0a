"""Tables of the replicas of LLM functions: filled, pointed at, let grow.

Shapes: B rows, L lanes (a pattern for each LLM function, then those for live instances), N
requests.  Units: seconds, tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.llm.lane import turn_address
from stoker.envs.cluster.llm.lane_table import LANE
from stoker.envs.cluster.llm.replica import fill, queues_of
from stoker.envs.cluster.llm.requests import MOST_TOKENS, Requests, counts
from stoker.envs.cluster.llm.tables import MEMBER, PLACE, QUEUE, REQ
from stoker.envs.cluster.llm_spec import pattern
from stoker.envs.cluster.spec import Cluster
from stoker.envs.cluster.tables import NONE
from stoker.envs.workload.workload import Workload

Records = NDArray[Any]
FIRST = 4
"""Replicas that a row has room for at first."""


class Lanes:
    """Replicas of B rows, and the requests of each.

    Args:
        rows: B.
        llms: most LLM functions of a row.
        batch: most requests that a replica runs at a time.
    """

    def __init__(self, rows: int, llms: int, batch: int) -> None:
        self.llms = llms
        self.lane = np.zeros((rows, llms + FIRST), LANE)
        self._run = np.zeros((rows, llms + FIRST, batch), PLACE)
        self._batch = np.zeros((rows, llms + FIRST, batch), MEMBER)
        self._queue: list[Records] = [np.zeros((0, 0), QUEUE)] * rows
        self.req: list[Records] = [np.zeros(0, REQ)] * rows
        self._prompt = [np.zeros(0, np.int32)] * rows

    def load(self, k: int, row: Any, cluster: Cluster, workload: Workload) -> None:
        """Start row k afresh."""
        requests = _read(workload)
        self.req[k] = np.zeros(len(workload), REQ)
        fill(self.req[k], requests)
        self._prompt[k] = self.req[k]["prompt"].copy()
        lane = self.lane[k]
        lane[:] = np.zeros((), LANE)
        for f in cluster.functions:
            if f.llm is not None:
                lane[row["llms"]] = pattern(f)[0]
                lane["warmup"][row["llms"]] = row["warmup"]
                lane["queues"][row["llms"]] = queues_of(f.llm.scheduler, requests)
                row["llms"] += 1
        row["lane_free"] = self.llms
        lane["next"] = np.arange(1, len(lane) + 1)
        lane["next"][-1] = NONE
        lane["inst"] = NONE
        self._queue[k] = np.zeros((len(lane), max(lane["queues"].max(), 1)), QUEUE)

    def grow(self, rows: Records) -> None:
        """Make room for as many replicas again."""
        old = self.lane.shape[1]
        self.lane, self._run, self._batch = map(_doubled, (self.lane, self._run, self._batch))
        self.lane["next"][:, old:] = np.arange(old + 1, 2 * old + 1)
        self.lane["next"][:, -1] = rows["lane_free"]
        self.lane["inst"][:, old:] = NONE
        rows["lane_free"] = old
        self._queue = [_doubled(queue[None])[0] for queue in self._queue]

    def point(self, k: int, row: Any) -> None:
        """Write the addresses of all tables into row k and its lanes."""
        lane = self.lane[k]
        for name, table in (
            ("run", self._run[k]), ("batch", self._batch[k]), ("queue", self._queue[k]),
        ):  # fmt: skip
            lane[name] = table.ctypes.data + table.strides[0] * np.arange(len(lane))
        lane["req"] = row["llm_req"] = self.req[k].ctypes.data
        row["lane"], row["prompt"] = lane.ctypes.data, self._prompt[k].ctypes.data
        row["turn"] = turn_address()

    def token_times(self, k: int) -> tuple[NDArray[Any], ...]:
        """First token of each request of row k, longest wait for another, how many were late."""
        req = self.req[k]
        longest_s = np.where(req["max_gap"] < 0.0, np.nan, req["max_gap"])
        return req["first_token"].copy(), longest_s, req["late"].copy()


def _doubled(table: Records) -> Records:
    """A table of B rows with as many empty columns again. Shape: (B, 2 L, ...)"""
    return np.concatenate([table, np.zeros_like(table)], axis=1)


def _read(workload: Workload) -> Requests:
    """Columns of a workload; counts out of range stay so, and their requests are refused."""
    n = len(workload)
    prompt, output = (
        np.clip(np.zeros(n) if column is None else column, 0, MOST_TOKENS - 1).astype(np.int64)
        for column in (workload.prompt_tokens, workload.output_tokens)
    )
    client = np.zeros(n, np.int64)
    if workload.client is not None:
        client = counts("workload.client", workload.client, n, 0, max(n, 1) - 1)
    return Requests(workload.arrival_s, prompt, output, client)
