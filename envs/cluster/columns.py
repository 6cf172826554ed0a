"""The numbers of many functions, a column each: what is worked out for all of them at once.

Shapes: F functions.  Units: as in Function (function.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.function import Function

NUMBERS = tuple(f.name for f in fields(Function) if f.type in ("float", "int", "float | None"))
_numbers = attrgetter(*NUMBERS)


class Columns:
    """Every numeric field of Function as an attribute, Shape: (F,); a figure not stated is NaN."""

    def __init__(self, functions: Sequence[Function]) -> None:
        self._table = np.array([_numbers(f) for f in functions], np.float64)
        self._place = {name: k for k, name in enumerate(NUMBERS)}

    def __getattr__(self, name: str) -> NDArray[np.float64]:
        if name.startswith("_") or name not in self._place:
            raise AttributeError(name)
        column: NDArray[np.float64] = self._table[:, self._place[name]]
        return column

    @property
    def disk_gib(self) -> NDArray[np.float64]:
        """What the weights take on a disk."""
        return self.weights_gib / self.compression
