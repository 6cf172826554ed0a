"""The requests of a replay, checked.  Shapes: N requests.  Units: seconds, tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stoker.envs.cluster.errors import SpecError

MOST_TOKENS = 2**30
"""Counts are held in 32 bits."""


@dataclass(frozen=True)
class Requests:
    """Columns of one length, arrivals ascending."""

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    client: NDArray[np.int64]

    @property
    def clients(self) -> int:
        """One more than the highest client."""
        return int(self.client.max()) + 1 if len(self.client) else 1


def read(
    arrival_s: ArrayLike,
    prompt_tokens: ArrayLike,
    output_tokens: ArrayLike,
    client: ArrayLike | None,
) -> Requests:
    """Check the columns of a replay.

    Raises:
        SpecError: names the field, the first bad value with its place, and the accepted range.
    """
    arrival = _arrivals(arrival_s)
    n = len(arrival)
    return Requests(
        arrival,
        counts("prompt_tokens", prompt_tokens, n, 1, MOST_TOKENS),
        counts("output_tokens", output_tokens, n, 1, MOST_TOKENS),
        np.zeros(n, np.int64) if client is None else counts("client", client, n, 0, max(n, 1) - 1),
    )


def _column(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        column = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise SpecError(name, values, "a column of numbers") from None
    if column.ndim != 1:
        raise SpecError(f"{name}: dimensions", column.ndim, "1")
    return column


def _arrivals(values: ArrayLike) -> NDArray[np.float64]:
    arrival = _column("arrival_s", values)
    _refuse("arrival_s", arrival, ~(np.isfinite(arrival) & (arrival >= 0.0)), "finite, >= 0")
    down = np.concatenate([[False], np.diff(arrival) < 0.0]) if len(arrival) else np.zeros(0, bool)
    _refuse("arrival_s", arrival, down, "ascending times")
    return arrival


def counts(name: str, values: ArrayLike, n: int, least: int, most: int) -> NDArray[np.int64]:
    """Check a column of integers."""
    column = _column(name, values)
    if len(column) != n:
        raise SpecError(f"{name}: length", len(column), f"one entry a request ({n})")
    good = (column >= least) & (column <= most) & (column == np.floor(column))
    _refuse(name, column, ~good, f"integers {least} .. {most}")
    return column.astype(np.int64)


def _refuse(name: str, column: NDArray[np.float64], bad: NDArray[np.bool_], accepted: str) -> None:
    places = np.flatnonzero(bad)
    if len(places):
        raise SpecError(f"{name}[{places[0]}]", float(column[places[0]]), accepted)
