"""The clairvoyant relaxation: what each idle interval and busy spell costs at least.

A lower bound on the cost, from an empty cluster at time 0 to the horizon, (rent + start-up work +
priced waiting) of every policy that leaves no function's requests waiting at the horizon and
refuses none, however it queues, batches, delays, shares or duplicates instances; `corrections`
extends it to policies that do either. What it rests on:

1. *Rate.* While k requests of f are there (waiting or in service), m instances serve at most
   m * slots of them. Split the k requests into levels of `slots`; level r costs, at every instant
   in which it is busy, at least kappa(t) = min(size * memory price, wait price): instance r + 1 is
   held, or at least one request waits. A request is there at least from its arrival for its
   service time, so the busy spells of `intervals` hold under every policy. Running work is thus
   charged and fills memory, and where it exceeds the memory the rest is charged as waiting.
2. *Keep.* If level r has an instance (or, at level 0, a request waiting for one) during the whole
   gap, the gap costs at least the integral of kappa.
3. *Reload.* Else level r was off at some instant of the gap, and the next busy spell needs a
   start-up begun after that instant: its start-up work, memory while it loads, and waiting
   of those who arrive before it can be ready, which is load_s after the gap's start at the
   earliest. Each start-up raises the number of instances of f by one, so it counts for one level
   and one gap only. With a host tier the memory is held for the host-to-device leg only
   (`reload`), and a host copy kept through the gap saves the disk leg (`host`; level 0 pays the
   copy's rent, higher levels share it).
4. *Never.* At levels >= 1 the spell may instead wait for instances of the levels below: all its
   request-seconds are waiting. At level 0 somebody must start an instance; delaying it costs
   waiting at a rate of at least kappa, which rule 1 and 2 have counted.
5. *Memory.* The levels' memory of all functions, integrated over each time bin, is at most
   device_gib times the bin. This row is priced (Lagrangian) or kept (linear program). An instance
   over several GPUs counts with all that it holds on them.

Relaxed, hence free: queueing and slow-down on links and shared GPUs, which GPU holds what
(fragmentation), host memory limits, rent and work of filling a host copy, waiting of more than
one request a level while an instance loads beyond `pending_seconds`, batches' longer service.
Within one start-up of the horizon nothing but busy spells is charged. Rent stops at the horizon.

With `prewarm=False` the class is smaller: policies that begin the start-up of a function's *only*
instance, and fetch host copies, on demand alone.

Not covered: policies that shorten a start-up below Cluster.load_s (snapshots, overlapped or
layered start-up, sharing within a family), batches that finish before their slowest member would
have alone, and times rounded down (time_quantum_s). Runs that begin warm, and scores that leave out
an opening period, are covered with `carried`: every level may have been there at time 0, so that
its first gap can be kept for its memory alone.

Shapes: I intervals, K time bins, F functions.  Units: seconds, GiB, dollars.
Source: cost structure after Berger et al., SIGMETRICS 2018, and the interval linear programs of
reference systems for serverless keep-alive; rules 1, 3 and 4 are argued above.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.bounds.intervals import (
    Floats,
    FunctionCosts,
    Intervals,
    Ints,
    find_intervals,
    function_costs,
    pending_seconds,
)
from stoker.envs.cluster.spec import Cluster
from stoker.envs.workload import Workload

KEEP, RELOAD, HOST, NEVER = range(4)
"""The options of an interval, in the order in which ties are settled."""
CHARGE_FETCH = False
"""Whether the disk leg of fetching a host copy counts as start-up work. The engine's bill leaves it
out, so a start-up may cost the host-to-device leg's work alone; True is tighter where it counts."""


@dataclass(frozen=True)
class Positions:
    """Times as (bin, seconds after the bin's start)."""

    bin: NDArray[np.int32]
    after_s: Floats


@dataclass(frozen=True)
class Relaxation:
    """Options of every interval over a grid of time bins."""

    costs: FunctionCosts
    intervals: Intervals
    edges_s: Floats
    """Shape: (K + 1,)"""
    capacity_gib: float
    device_usd_gib_s: float
    wait_usd_s: float
    load_usd: Floats
    """Start-up work of options reload and host, in dollars. Shape: (2, I)"""
    late_usd: Floats
    """Waiting that they force. Shape: (2, I)"""
    copy_usd: Floats
    """Rent of the host copy. Shape: (2, I)"""
    lead_s: Floats
    """Seconds for which they hold device memory before the arrival. Shape: (2, I)"""
    never_usd: Floats
    """Waiting if nobody serves the level; inf at level 0. Shape: (I,)"""

    @property
    def widths_s(self) -> Floats:
        """Width of every time bin. Shape: (K,)."""
        return np.diff(self.edges_s)

    @property
    def fixed_usd(self) -> Floats:
        """Options reload and host without the memory that they hold. Shape: (2, I)."""
        return self.load_usd + self.late_usd + self.copy_usd

    def locate(self, times_s: Floats) -> Positions:
        """Find the bins of some times."""
        at = np.searchsorted(self.edges_s, times_s, side="right") - 1
        at = np.clip(at, 0, len(self.edges_s) - 2)
        return Positions(at.astype(np.int32), times_s - self.edges_s[at])


def device_price(cluster: Cluster) -> float:
    """Least rent of a GiB-second of device memory; a whole GPU costs no less a GiB in use."""
    return min(g.usd_gib_s for g in cluster.gpus)


def time_bins(workload: Workload, bins: int) -> Floats:
    """Bin edges: half of them uniform in time, half at quantiles of the arrivals."""
    uniform = np.linspace(0.0, workload.horizon_s, bins // 2 + 1)
    if len(workload):
        spread = np.quantile(workload.arrival_s, np.linspace(0.0, 1.0, bins - bins // 2 + 1))
        uniform = np.union1d(uniform, spread)
    apart = np.concatenate([[True], np.diff(uniform) > 1e-9 * workload.horizon_s])
    edges = uniform[apart]
    edges[-1] = workload.horizon_s
    return np.asarray(edges, np.float64)


def relax(
    cluster: Cluster,
    workload: Workload,
    *,
    bins: int,
    prewarm: bool = True,
    carried: bool = False,
) -> Relaxation:
    """Build the relaxation of a workload on a cluster; `carried`: see `lower_bound`."""
    costs = function_costs(cluster)
    found = find_intervals(workload, costs)
    if carried:
        found = replace(found, first=np.zeros_like(found.first))
    price, objective = device_price(cluster), cluster.objective
    load_usd, late_usd, copy_usd, lead_s = _reloads(
        costs, found, cluster, price=price, prewarm=prewarm
    )
    final = found.end_s > workload.horizon_s - costs.load_s[found.function]
    for array in (load_usd, late_usd, copy_usd, lead_s):
        array[:, final & (array[0] < np.inf)] = 0.0
    load_usd[1, (found.level > 0) | found.first | ~costs.hosted[found.function]] = np.inf
    never_usd = np.where(found.level > 0, objective.wait_usd_s * found.request_s, np.inf)
    return Relaxation(
        costs=costs,
        intervals=found,
        edges_s=time_bins(workload, bins),
        capacity_gib=cluster.device_gib,
        device_usd_gib_s=price,
        wait_usd_s=objective.wait_usd_s,
        load_usd=load_usd,
        late_usd=late_usd,
        copy_usd=copy_usd,
        lead_s=lead_s,
        never_usd=never_usd,
    )


def _reloads(
    costs: FunctionCosts, found: Intervals, cluster: Cluster, *, price: float, prewarm: bool
) -> tuple[Floats, Floats, Floats, Floats]:
    """Work, waiting, copy rent and lead of reload (row 0) and host (row 1). Shapes: (2, I)."""
    fn, gap_s = found.function, found.end_s - found.start_s
    upper = found.level > 0
    whole_s, from_host_s = costs.load_s[fn], costs.host_load_s[fn]
    start_s = np.stack([np.where(upper, from_host_s, whole_s), from_host_s])
    held_s = np.stack([from_host_s, from_host_s])
    early_s = np.where(upper | prewarm, gap_s, 0.0)
    late_s = np.maximum(start_s - early_s, 0.0)
    lead_s = np.maximum(np.minimum(held_s, start_s) - late_s, 0.0)
    lead_s = np.minimum(lead_s, early_s)
    rent_usd_s = np.minimum(
        np.minimum(costs.host_usd_s, costs.size_gib * price)[fn], cluster.objective.wait_usd_s
    )
    copy_s = np.maximum(gap_s - lead_s[1] - (whole_s - from_host_s), 0.0)
    copy_usd = np.stack([np.zeros(len(found)), rent_usd_s * copy_s])
    waiting = np.stack([_waiting(found, late_s[row], costs.slots) for row in range(2)])
    work_s = start_s if CHARGE_FETCH else np.stack([from_host_s, from_host_s])
    return (
        cluster.objective.load_usd_s * work_s,
        cluster.objective.wait_usd_s * waiting,
        copy_usd,
        lead_s,
    )


def _waiting(found: Intervals, late_s: Floats, slots: Ints) -> Floats:
    """Request-seconds if no instance is ready until `late_s` past the arrival. Shape: (I,)."""
    return np.where(found.level > 0, late_s, pending_seconds(found, late_s, slots))
