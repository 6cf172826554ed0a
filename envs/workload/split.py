"""Split a workload into training, validation and test by time and by function.

A policy judged on the functions it was trained on may have learnt their names; one judged on the
hours it was trained on may have learnt the day. The three parts share neither.

Shapes: F functions.  Units: seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload.workload import Workload


@dataclass(frozen=True)
class Split:
    """Parts with disjoint functions and disjoint, ascending time windows."""

    train: Workload
    validation: Workload
    test: Workload
    later: Workload
    """Training functions in the test window: what time alone costs."""
    train_functions: NDArray[np.int64]
    """Indices into the names of the whole workload, ascending."""
    validation_functions: NDArray[np.int64]
    test_functions: NDArray[np.int64]


def split(
    workload: Workload,
    rng: np.random.Generator,
    *,
    function_shares: tuple[float, float, float] = (0.6, 0.15, 0.25),
    edges_s: tuple[float, float, float, float] | None = None,
) -> Split:
    """Draw disjoint sets of functions and give each its own window.

    Args:
        workload: the whole.
        rng: draws the sets; same state, same split.
        function_shares: of training, validation and test; they sum to at most 1.
        edges_s: start of training, of validation, of test, and the end. By default 0, 45 %, 60 %
            and 100 % of the horizon.

    Raises:
        SpecError: shares or edges out of range, or too few functions for three sets.
    """
    end_s = workload.horizon_s
    edges_s = edges_s or (0.0, 0.45 * end_s, 0.6 * end_s, end_s)
    ascending = bool(np.all(np.diff(edges_s) > 0.0))
    if not (ascending and edges_s[0] >= 0.0 and edges_s[3] <= end_s):
        raise SpecError("edges_s", edges_s, f"four ascending times in 0..{end_s}")
    shares = np.array(function_shares)
    if not (bool(np.all(shares > 0.0)) and shares.sum() <= 1.0 + 1e-12):
        raise SpecError("function_shares", function_shares, "three shares > 0, sum <= 1")
    bounds = np.rint(np.append(0.0, np.cumsum(shares)) * len(workload.names)).astype(np.int64)
    if not bool(np.all(np.diff(bounds) > 0)):
        raise SpecError("workload.names", len(workload.names), "a function for each of three sets")
    shuffled = rng.permutation(len(workload.names))
    sets = [np.sort(shuffled[a:b]) for a, b in pairwise(bounds.tolist())]
    windows = list(pairwise(edges_s))
    plan = [("train", 0, 0), ("validation", 1, 1), ("test", 2, 2), ("later", 0, 2)]
    parts = {name: _part(workload, name, sets[s], windows[w]) for name, s, w in plan}
    return Split(
        **parts, train_functions=sets[0], validation_functions=sets[1], test_functions=sets[2]
    )


def _part(
    workload: Workload, name: str, functions: NDArray[np.int64], window: tuple[float, float]
) -> Workload:
    cut = workload.window(*window).select(functions)
    said = f"{name} {window[0]:g}-{window[1]:g} s, {len(functions)} functions"
    return replace(cut, source=f"{workload.source}; {said}")
