"""`Targets`: how many instances of which function where, and how its requests are shared out.

Shapes: N rows of the table.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stoker.envs.cluster.errors import SpecError, require

ANY = -1
NO_LIMIT = 2**31 - 1
DEVICE, HOST = 0, 1


@dataclass(frozen=True)
class Targets:
    """A table of targets; what a Decision gives replaces the whole table that stood before.

    A function with rows of a tier is there only where its rows say; a GPU that none of them names
    takes no instance of it. An instance over several GPUs needs each of them named, and counts for
    the rows that name its first; its floor needs a row of several. Functions without rows go where
    they like. There is no column for a config yet, because a Function has one.

    Raises:
        SpecError: a column has another length, or values that are no whole numbers.
    """

    row: ArrayLike
    """Cluster (row of the simulation) that it is for. Shape: (N,)"""
    function: ArrayLike
    """Shape: (N,)"""
    gpu: ArrayLike = ANY
    """-1 = any. Shape: (N,) or ()"""
    gpu_class: ArrayLike = ANY
    """Where no GPU is named: all of this class (Cluster.kinds); -1 = any. Shape: (N,) or ()"""
    tier: ArrayLike = DEVICE
    """0 instances on the device; 1 host copies on the nodes of what is named. Shape: (N,) or ()"""
    min: ArrayLike = 0
    """Floor: loaded at the Decision, as far as memory allows, over idle instances that no floor
    holds; not evicted, not expired. Floors of rows that overlap add up. Shape: (N,) or ()"""
    max: ArrayLike = NO_LIMIT
    """No new one where so many are; what exceeds it leaves when idle. Shape: (N,) or ()"""
    weight: ArrayLike = 0.0
    """Share of the function's requests, among the rows that have an instance which can take work;
    0 = only when no row with a weight has one. Without weights rule `clone_choice` decides.
    Shape: (N,) or ()"""

    def __post_init__(self) -> None:
        shape = np.shape(self.row)
        require(len(shape) == 1, "targets.row", shape, "one dimension")
        for f in fields(self):
            column = np.asarray(getattr(self, f.name))
            fits = column.shape in (shape, ())
            require(fits, f"targets.{f.name}", column.shape, f"the shape of row, {shape}")
            if f.name != "weight" and column.dtype.kind not in "iub" and column.size > 0:
                raise SpecError(f"targets.{f.name}", column.dtype.name, "whole numbers")
            kind: type = np.float64 if f.name == "weight" else np.int64
            object.__setattr__(self, f.name, np.broadcast_to(column.astype(kind), shape))

    def column(self, name: str) -> NDArray[Any]:
        """A column as an array. Shape: (N,)"""
        found: NDArray[Any] = getattr(self, name)
        return found
