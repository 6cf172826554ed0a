"""The decisions on batches that rows wait for, and what has been paid since the last ones.

Shapes: B rows, S slots for functions, K features, Z batch sizes, W places of a queue.
Units: seconds; costs in requests and in latency targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster import engine
from stoker.envs.cluster.batching import TERMS, close_books, step_batches
from stoker.envs.cluster.observe_batch import K
from stoker.envs.cluster.tables import NONE

if TYPE_CHECKING:
    from stoker.envs.cluster.simulation import Simulation

PLACES = 64
"""Places of a queue whose deadlines are handed out."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Decide = Callable[[NDArray[np.float32], "Due"], Ints]
"""From the observation of the function that decides and its exact figures to an action."""


@dataclass(frozen=True)
class Due:
    """The function that decides, of each row: exact figures for policies that are rules."""

    function: Ints
    """Shape: (B,)"""
    figures: Floats
    """See the properties. Shape: (B, 5)"""
    queue: Ints
    """See the properties. Shape: (B, 4)"""
    deadline_s: Floats
    """Of the requests that wait, in order; inf = none there. Shape: (B, W)"""
    sizes: Ints
    """Batch sizes that actions stand for. Shape: (Z,)"""

    @property
    def now_s(self) -> Floats:
        """The row's clock. Shape: (B,)"""
        return self.figures[:, 0]

    @property
    def alpha_s(self) -> Floats:
        """Fixed part of a batch's time. Shape: (B,)"""
        return self.figures[:, 1]

    @property
    def beta_s(self) -> Floats:
        """Part a request. Shape: (B,)"""
        return self.figures[:, 2]

    @property
    def slo_s(self) -> Floats:
        """Latency target. Shape: (B,)"""
        return self.figures[:, 3]

    @property
    def ran_s(self) -> Floats:
        """Time of the function's last batch. Shape: (B,)"""
        return self.figures[:, 4]

    @property
    def queued(self) -> Ints:
        """Requests that wait, >= 1. Shape: (B,)"""
        return self.queue[:, 0]

    @property
    def max_batch(self) -> Ints:
        """Largest batch. Shape: (B,)"""
        return self.queue[:, 1]

    @property
    def ran(self) -> Ints:
        """Size of the function's last batch; 0 = none yet. Shape: (B,)"""
        return self.queue[:, 2]

    @property
    def arrivals(self) -> Ints:
        """Requests that have come so far, >= 1. Shape: (B,)"""
        return self.queue[:, 3]

    @property
    def head_waited_s(self) -> Floats:
        """How long the head of the queue has waited. Shape: (B,)"""
        waited: Floats = self.now_s - (self.deadline_s[:, 0] - self.slo_s)
        return waited


@dataclass(frozen=True)
class Books:
    """What compiled code fills where a row has stopped."""

    observation: NDArray[np.float32]
    """Of the function that decides (B, K), or of all (B, S * (1 + K))."""
    terms: Floats
    """Costs since `clear`, see batching.py. Shape: (B, 4)"""
    counts: Ints
    """Requests that came, decisions that others had made void. Shape: (B, 2)"""
    room: Ints
    """Most requests that a batch could take now, of each function; 0 = none. Shape: (B, S)"""
    due: Due

    @classmethod
    def empty(cls, rows: int, slots: int, one: bool, sizes: Ints) -> Books:
        """Allocate; `one`: observe only the function that decides."""
        width = K if one else slots * (1 + K)
        due = Due(np.zeros(rows, np.int64), np.zeros((rows, 5)), np.zeros((rows, 4), np.int64),
                  np.full((rows, PLACES), np.inf), sizes)  # fmt: skip
        return cls(
            np.zeros((rows, width), np.float32),
            np.zeros((rows, len(TERMS))),
            np.zeros((rows, 2), np.int64),
            np.zeros((rows, slots), np.int64),
            due,
        )

    @property
    def columns(self) -> tuple[NDArray[np.generic], ...]:
        """As compiled code takes them."""
        due = self.due
        return (self.observation, self.terms, self.counts, due.function, self.room, due.figures,
                due.queue, due.deadline_s)  # fmt: skip

    def clear(self) -> None:
        """Begin to count anew."""
        self.terms[:] = 0.0
        self.counts[:] = 0


@dataclass
class BatchRows:
    """Rows of a simulation that stop at every decision on a batch.

    Args:
        sim: the rows.
        books: where they are described.
        one: decisions are for the most urgent function alone.
        share: longest wait for the next decision, in latency targets; inf = no timer.
    """

    sim: Simulation
    books: Books
    one: bool
    share: float
    _none: Ints = field(init=False)

    def __post_init__(self) -> None:
        self._none = np.zeros_like(self.books.room)

    def run(self, actions: Ints) -> None:
        """Decide in every row and run it to its next decision or its horizon. Shape: (B, S)"""
        count = len(self.sim.state.rows)
        self._run(np.full(count, np.inf), 0, count, actions)

    def run_until(self, until_s: Floats, decide: Decide) -> Ints:
        """Run a single row to a time, asking about every batch on the way; return its state."""
        rows = self.sim.state.rows
        actions = None
        while True:
            self._run(until_s, 0, len(rows), actions)
            if rows["pending"][0] == NONE:
                return rows["status"].copy()
            due = self.books.due
            actions = np.zeros_like(self.books.room)
            actions[0, due.function[0]] = decide(self.books.observation, due)[0]

    def open(self, k: int, warmup_s: float) -> None:
        """Bring a row that was loaded to its first decision.

        Everything that is asked for stays loaded, in one instance a function; up to `warmup_s`
        every batch starts as soon as it can, and costs nothing.
        """
        rows, fn = self.sim.state.rows, self.sim.state.fn[k]
        fn["keep_alive_s"], fn["max_instances"] = np.inf, 1
        if warmup_s > 0.0:
            self._run(np.full(len(rows), warmup_s), k, k + 1, None)
            close_books(rows, k, self.books.columns)
        rows[k]["batching"] = 1
        self._run(np.full(len(rows), np.inf), k, k + 1, None)

    def _run(self, until: Floats, first: int, last: int, actions: Ints | None) -> None:
        """Advance rows first..last-1, growing the buffers that are full."""
        state, books = self.sim.state, self.books
        while True:
            given = self._none if actions is None else actions
            step_batches(state.rows, first, last, until, actions is not None, self.one, given,
                         books.due.sizes, self.share, books.columns)  # fmt: skip
            actions = None  # carried out
            status = state.rows["status"][first:last]
            if (status == engine.FULL_INSTANCES).any():
                state.grow_instances()
            elif (status == engine.FULL_HEAP).any():
                used = state.rows["heap_n"] + state.rows["slowed_n"] + state.rows["queued"]
                state.grow_heap(int(2 * used.max() + 1024))
            else:
                return
