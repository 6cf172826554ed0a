"""The hazard oracle: the hazard index with every function's gaps of the whole trace in hand.

Rule: as `hazard`, but the histogram counts all gaps of the function, later ones included, and
leaves out the one being decided; the population's counts all gaps. Gaps are those of the
schedule in which each request is served on arrival (bounds/hazard_oracle.py states them).
A reference, not a bound: a policy that adapts to recent traffic can beat it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.bounds.hazard_oracle import BINS, bin_of
from stoker.baselines.bounds.intervals import Ints, find_intervals, function_costs
from stoker.baselines.hazard import HazardIndex
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster
from stoker.envs.cluster.tables import NONE
from stoker.envs.workload import Workload


class HazardOracle(HazardIndex):
    """Evict, keep and prewarm by the gaps that the trace is going to have.

    Args:
        prior_weight: gaps that the population histogram counts for.
        cost_exponent: of the start-up time in the index.
        size_exponent: of the size.
        prewarm: load again ahead of demand.
        price_factor: multiplier on the online price of memory in the prewarm plan.
    """

    def __init__(
        self,
        prior_weight: float = 0.1,
        cost_exponent: float = 1.0,
        size_exponent: float = 1.0,
        prewarm: bool = True,
        price_factor: float = 1.0,
    ) -> None:
        super().__init__(0.97, prior_weight, cost_exponent, size_exponent, prewarm, price_factor)
        self._tables: list[NDArray[np.int32]] = []

    def foresee(self, simulation: Simulation) -> None:
        """Put the histograms of each row's workload into the engine, which then learns no more."""
        state = simulation.state
        for k, (cluster, workload) in enumerate(
            zip(simulation.clusters, state.workloads, strict=True)
        ):
            table, first = gap_table(cluster, workload)
            self._tables.append(table)  # the engine keeps the address alone
            function = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(table))))
            known = table != NONE
            counts = np.zeros((len(first), BINS))
            np.add.at(counts, (function[known], table[known]), 1.0)
            fn, row = state.fn[k, : len(first)], state.rows[k]
            fn["foreseen"] = first
            fn["slow"], fn["slow_sum"] = counts, counts.sum(axis=1)
            # A function's n-th gap weighs n^-1/2 in the population, as it does online.
            total = counts.sum(axis=1, keepdims=True)
            weights = np.cumsum(1.0 / np.sqrt(np.arange(1, int(total.max(initial=0.0)) + 2)))
            share = np.where(total > 0, weights[np.maximum(total.astype(int) - 1, 0)], 0.0)
            prior = (counts * share / np.maximum(total, 1.0)).sum(axis=0)
            row["prior"] = prior
            row["prior_sum"] = row["prior"].sum(dtype=np.float64)
            row["oracle"] = table.ctypes.data


def gap_table(cluster: Cluster, workload: Workload) -> tuple[NDArray[np.int32], Ints]:
    """Find the bin of the gap that each request ends.

    Returns:
        Bins, NONE where a request ends no gap, grouped by function in order of arrival, with one
        place more a function for what comes after its last; and where each function begins.
    """
    found = find_intervals(workload, function_costs(cluster))
    first = found.request_offsets[:-1] + np.arange(len(found.request_offsets) - 1, dtype=np.int64)
    gaps = (found.level == 0) & ~found.first
    table = np.full(len(workload) + len(first), NONE, np.int32)
    lengths_s = found.end_s[gaps] - found.start_s[gaps]
    table[found.opener[gaps] + found.function[gaps]] = bin_of(lengths_s, cluster.first_bin_s)
    return table, first
