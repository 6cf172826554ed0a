"""A workload: sorted arrays of requests over named functions.

Shapes: N requests, F functions.  Units: seconds from the start of the workload, tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError


@dataclass(frozen=True)
class Workload:
    """Requests in order of arrival.

    Raises:
        SpecError: an array has the wrong length, a time is NaN, negative or out of order, or a
            function index is outside the table.
    """

    arrival_s: NDArray[np.float64]
    """Arrival times, ascending; ties are served in array order. Shape: (N,)"""
    function: NDArray[np.int32]
    """Index into `names`. Shape: (N,)"""
    names: tuple[str, ...]
    """One name a function. Length F"""
    horizon_s: float
    """End of the workload; no arrival lies beyond it."""
    service_s: NDArray[np.float64] | None = None
    """Service time of a request alone on a warm instance; None = p(1) of its function. Shape: (N,)
    """
    prompt_tokens: NDArray[np.int32] | None = None
    """Shape: (N,)"""
    output_tokens: NDArray[np.int32] | None = None
    """Shape: (N,)"""
    client: NDArray[np.int32] | None = None
    """Who sent a request, 0 or more: of use to the LLM scheduler vtc. Shape: (N,)"""
    source: str = "unnamed"
    """Which trace or generator this is, with its version: printed with every result."""

    def __post_init__(self) -> None:
        n = len(self.arrival_s)
        for name in ("function", "service_s", "prompt_tokens", "output_tokens", "client"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise SpecError(f"workload.{name}", len(column), f"one entry a request ({n})")
        if n:
            self._check_rows()
        end = float(self.arrival_s[-1]) if n else 0.0
        if not (end <= self.horizon_s < np.inf and self.horizon_s > 0.0):
            raise SpecError("workload.horizon_s", self.horizon_s, f"a time > 0 and >= {end}")

    def _check_rows(self) -> None:
        arrival_s = self.arrival_s
        ascending = bool((arrival_s[1:] >= arrival_s[:-1]).all())  # not so where one is NaN
        if not (ascending and arrival_s[0] >= 0.0 and arrival_s[-1] < np.inf):
            self._refuse_arrivals()
        lo, hi = int(self.function.min()), int(self.function.max())
        if lo < 0 or hi >= len(self.names):
            raise SpecError("workload.function", lo if lo < 0 else hi, f"0..{len(self.names) - 1}")
        if self.service_s is not None and not self.service_s.min() >= 0.0:
            at = int(np.flatnonzero(~(self.service_s >= 0.0))[0])
            raise SpecError(f"workload.service_s[{at}]", float(self.service_s[at]), "a time >= 0")

    def _refuse_arrivals(self) -> NoReturn:
        arrival_s = self.arrival_s
        bad = np.flatnonzero(~(np.isfinite(arrival_s) & (arrival_s >= 0.0)))
        if len(bad):
            at, accepted = int(bad[0]), "a time >= 0"
        else:
            at = int(np.flatnonzero(np.diff(arrival_s) < 0.0)[0]) + 1
            accepted = f"at least the arrival before it ({arrival_s[at - 1]})"
        raise SpecError(f"workload.arrival_s[{at}]", float(arrival_s[at]), accepted)

    def __len__(self) -> int:
        return len(self.arrival_s)

    def window(self, start_s: float, end_s: float) -> Workload:
        """Cut out [start_s, end_s) and shift it to start at zero."""
        keep = slice(*np.searchsorted(self.arrival_s, [start_s, end_s]))
        return self._take(keep, self.arrival_s[keep] - start_s, end_s - start_s)

    def select(self, functions: NDArray[np.integer]) -> Workload:
        """Keep the requests of some functions, renumbered in the order given. Shape: (K,)."""
        renumber = np.full(len(self.names), -1, np.int32)
        renumber[functions] = np.arange(len(functions), dtype=np.int32)
        keep = renumber[self.function] >= 0
        cut = self._take(keep, self.arrival_s[keep], self.horizon_s)
        names = tuple(self.names[int(f)] for f in functions)
        return replace(cut, function=renumber[cut.function], names=names)

    def where(self, keep: NDArray[np.bool_]) -> Workload:
        """Keep the requests that a mask marks. Shape: (N,)."""
        return self._take(keep, self.arrival_s[keep], self.horizon_s)

    def compress(self, factor: float) -> Workload:
        """Divide every time stamp (not the service times) by `factor`."""
        if not factor > 0.0:
            raise SpecError("workload.compress", factor, "a factor > 0")
        return replace(
            self,
            arrival_s=self.arrival_s / factor,
            horizon_s=self.horizon_s / factor,
            source=f"{self.source}, time compressed {factor:g}x",
        )

    def _take(
        self, keep: slice | NDArray[np.bool_], arrival_s: NDArray[np.float64], horizon_s: float
    ) -> Workload:
        def cut(column: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if column is None else column[keep]

        return replace(
            self,
            arrival_s=arrival_s,
            function=self.function[keep],
            horizon_s=horizon_s,
            service_s=cut(self.service_s),
            prompt_tokens=cut(self.prompt_tokens),
            output_tokens=cut(self.output_tokens),
            client=cut(self.client),
        )
