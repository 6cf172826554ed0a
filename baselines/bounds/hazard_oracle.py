"""The hazard oracle: each function's gap histogram over the whole trace, without the gap at hand.

The reference that a learner is measured against; not an upper bound, for a policy that adapts to
recent traffic can beat it. This file has its pure parts, written to be plainly right: they are also
the independent check of the compiled hazard rule.

Conventions:
- A *gap* runs from the instant at which nothing of the function is there (each request served on
  arrival) to its next arrival. The first arrival ends no gap.
- 72 bins: bin 0 is [0, first_bin_s), bin k is [first_bin_s * 2**((k-1)/5), first_bin_s * 2**(k/5)),
  bin 71 takes all longer gaps too. The mass of a bin is spread evenly over it, so that its mean is
  the bin's midpoint; the open bin is taken as wide as the series makes it.
- An age is known by its bin and stands for that bin's lower edge; tau ends at an upper edge.

Shapes: F functions, A ages, 72 bins.  Units: seconds.
Source: index of an idle interval after Gittins, "Bandit processes and dynamic allocation indices",
JRSS B 1979; hazard form after Aalto, Ayesta, Righter, "On the Gittins index in the M/G/1 queue",
Queueing Systems 2009.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.bounds.intervals import Floats, Ints, find_intervals, function_costs
from stoker.envs.cluster.spec import Cluster
from stoker.envs.workload import Workload

BINS = 72
GROWTH = 2.0**0.2


@dataclass(frozen=True)
class GapHistograms:
    """All gaps of a trace, counted and listed."""

    counts: NDArray[np.int64]
    """Gaps of every function by bin. Shape: (F, 72)"""
    function: Ints
    """Function of every gap, grouped by function, in time order. Shape: (gaps,)"""
    start_s: Floats
    """The function becomes idle. Shape: (gaps,)"""
    bin: Ints
    """Bin of every gap. Shape: (gaps,)"""

    def without(self, gap: int) -> NDArray[np.int64]:
        """Counts of the gap's function over all its other gaps. Shape: (72,)."""
        counts: NDArray[np.int64] = self.counts[self.function[gap]].copy()
        counts[self.bin[gap]] -= 1
        return counts


def gap_bins(first_bin_s: float) -> Floats:
    """Edges of the 72 bins; the last stands for the open end. Shape: (73,)."""
    return np.concatenate([[0.0], first_bin_s * GROWTH ** np.arange(BINS)])


def bin_of(gaps_s: Floats, first_bin_s: float) -> Ints:
    """Bins of some gaps or ages. Shape: as given."""
    at = np.searchsorted(gap_bins(first_bin_s), gaps_s, side="right") - 1
    return np.clip(at, 0, BINS - 1).astype(np.int64)


def loo_histograms(workload: Workload, cluster: Cluster) -> GapHistograms:
    """Count every function's gaps over the whole trace; `without` leaves one out."""
    found = find_intervals(workload, function_costs(cluster))
    gaps = (found.level == 0) & ~found.first
    function, start_s = found.function[gaps], found.start_s[gaps]
    bins = bin_of(found.end_s[gaps] - start_s, cluster.first_bin_s)
    counts = np.zeros((len(cluster.functions), BINS), np.int64)
    np.add.at(counts, (function, bins), 1)
    return GapHistograms(counts, function, start_s, bins)


def index_of(pmf: Floats, first_bin_s: float, age_bins: Ints | None = None) -> Floats:
    """Best chance of an arrival per second held, by age.

    Args:
        pmf: weights of the gap bins, not all 0; scaled to sum to 1. Shape: (72,)
        first_bin_s: upper edge of bin 0.
        age_bins: bins of the ages wanted; None = all. Shape: (A,)

    Returns:
        max over tau of P(T <= age + tau | T > age) / E[min(T - age, tau) | T > age], in 1/s; 0
        where no gap is that long. Times start-up seconds over GiB it is the hazard index.
        Shape: (A,)
    """
    edges = gap_bins(first_bin_s)
    middle = 0.5 * (edges[1:] + edges[:-1])
    mass = np.asarray(pmf, np.float64) / np.sum(pmf)
    wanted = np.arange(BINS) if age_bins is None else np.asarray(age_bins)
    return np.array([_best_ratio(mass, middle, edges, int(age)) for age in wanted])


def _best_ratio(mass: Floats, middle: Floats, edges: Floats, age: int) -> float:
    best = 0.0
    alive = mass[age:].sum()
    if alive <= 0.0:
        return best
    for last in range(age, BINS):
        inside = mass[age : last + 1]
        arrives = inside.sum() / alive
        until_arrival = (inside * (middle[age : last + 1] - edges[age])).sum() / alive
        held_s = until_arrival + (1.0 - arrives) * (edges[last + 1] - edges[age])
        best = max(best, float(arrives / held_s))
    return best
