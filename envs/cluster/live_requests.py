"""The requests of a live engine: a table that grows, or gives the places of ended ones out again.

Units: seconds.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stoker.envs.cluster.state import State
from stoker.envs.cluster.tables import IN_FLIGHT, REQ
from stoker.envs.workload.workload import Workload


class LiveRequests:
    """Requests by number, the place in the table.

    Args:
        state: of the engine; its tables of requests are these.
        capacity: places at first.
        recycle: give places out again once their requests have ended and everybody was told.
    """

    def __init__(self, state: State, capacity: int, recycle: bool) -> None:
        self._state, self._recycle = state, recycle
        self._count = 0
        self._free: list[int] = []
        self._ended: list[int] = []
        self.arrival_s = np.zeros(capacity)
        self.function = np.zeros(capacity, np.int32)
        self._resize(capacity)

    def __len__(self) -> int:
        """Places that are or were taken."""
        return self._count

    def _resize(self, capacity: int) -> None:
        """Give the tables room for `capacity` requests."""
        req = blank(capacity)
        req[: self._count] = self._state.req[0][: self._count]
        self._state.req[0] = req
        self.arrival_s = np.resize(self.arrival_s, capacity)
        self.function = np.resize(self.function, capacity)
        self._state.live[0] = (self.arrival_s, self.function)
        self._state.point()

    def make_room(self) -> None:
        """See to it that one more request can come."""
        if not self._free and self._count == len(self.arrival_s):
            self._resize(2 * self._count)

    def take(self, t: float, fn: int) -> int:
        """Give a request that has come its number."""
        if self._free:
            q = self._free.pop()
            self._state.req[0][q] = blank(1)[0]
        else:
            q = self._count
            self._count += 1
        self.arrival_s[q], self.function[q] = t, fn
        return q

    def end(self, numbers: Iterable[int]) -> None:
        """Note requests that have ended."""
        if self._recycle:
            self._ended += numbers

    def told(self) -> None:
        """Everybody knows by now of those that have ended."""
        self._free += self._ended
        self._ended = []

    def workload(self, names: tuple[str, ...], t: float) -> tuple[Workload, np.ndarray]:
        """What has come up to t, and its rows of the table, both in the order of arrival."""
        order = np.argsort(self.arrival_s[: self._count], kind="stable")
        arrival_s = self.arrival_s[order]
        end_s = max(t, float(arrival_s.max(initial=0.0)), 1e-9)
        seen = Workload(arrival_s, self.function[order], names, end_s, source="live")
        return seen, self._state.req[0][order]


def blank(count: int) -> np.ndarray:
    """Rows of requests that have not come yet. Shape: (count,)"""
    req = np.zeros(count, REQ)
    req["tier"] = IN_FLIGHT
    req["start"] = req["finish"] = np.nan
    return req
