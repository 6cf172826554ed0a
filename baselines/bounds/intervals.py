"""Idle intervals: from arrivals and service times to the gaps in which a policy has a choice.

At every instant the requests of a function that have arrived and could not yet be done, even if
each had started on arrival, are stacked into *levels* of `slots = concurrency * max_batch`
requests: level r is busy while more than r * slots of them are there, and needs instance r + 1 (or
the waiting of its requests). An *interval* is the idle gap of one level between two of its busy
spells, or before its first. With one slot this is the LIFO (bracket) matching of completions and
arrivals.

Shapes: N requests, F functions, I <= N intervals.  Units: seconds, GiB, dollars.
Source: interval view of caching after Berger, Beckmann, Harchol-Balter, "Practical bounds on
optimal caching with variable object sizes", SIGMETRICS 2018, section 3; levels are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stoker.envs.cluster.columns import Columns
from stoker.envs.cluster.spec import Cluster, Function
from stoker.envs.workload import Workload

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class FunctionCosts:
    """What a function's instances and start-ups cost. All arrays of shape (F,)."""

    size_gib: Floats
    """Device memory of one instance."""
    load_s: Floats
    """Least start-up time without a host copy."""
    host_load_s: Floats
    """Least start-up time from a host copy; equal to `load_s` where there is no host tier."""
    hosted: NDArray[np.bool_]
    """The node has room for a host copy."""
    host_usd_s: Floats
    """Rent of a host copy."""
    slots: Ints
    """Requests that one instance can serve at once."""
    service_s: Floats
    """Service time of a request alone, for requests that state none."""


@dataclass(frozen=True)
class Intervals:
    """Idle intervals, grouped by function. All arrays of shape (I,) unless stated."""

    function: Ints
    level: Ints
    """0 = the function's first instance, 1 = a second one at the same time, ..."""
    first: NDArray[np.bool_]
    """Nothing can have been kept: the gap reaches back to the empty cluster at time 0."""
    start_s: Floats
    """The level becomes idle."""
    end_s: Floats
    """The arrival that makes it busy again."""
    busy_end_s: Floats
    """End of the busy spell that follows."""
    request_s: Floats
    """Request-seconds of that spell at this level: its waiting if nobody serves it."""
    opener: Ints
    """Position in `arrivals` of the arrival at `end_s`."""
    arrivals: Floats
    """Arrival times ordered by function, then time. Shape: (N,)"""
    offsets: Ints
    """Intervals of function f are offsets[f]:offsets[f + 1]. Shape: (F + 1,)"""
    request_offsets: Ints
    """Likewise for `arrivals`. Shape: (F + 1,)"""

    def __len__(self) -> int:
        return len(self.function)


def least_processes_s(cluster: Cluster) -> list[float]:
    """Least time to a process for each function: forked, parked, lent or new."""
    functions = cluster.functions
    parked = {f.image for f in functions if 0.0 < f.runtime_gib <= cluster.host_gib}
    lenders = {f.image for f in functions if f.lend_after_s < math.inf}
    sandboxes = any(0.0 < f.sandbox_gib <= cluster.host_gib for f in functions)

    def least(f: Function) -> float:
        new_s = f.runtime_s if sandboxes else f.sandbox_s + f.runtime_s
        lent_s = f.lent_s if f.image in lenders else math.inf
        return 0.0 if f.image in parked else min(new_s, f.fork_s, lent_s)

    return [least(f) for f in functions]


def least_loads_s(
    cluster: Cluster, sources: tuple[str, ...], processes_s: list[float]
) -> NDArray[np.float64]:
    """Least time that a start-up of each function takes on any node from some sources. Shape: (F,)

    With its process after `processes_s`, of the weights alone that its family does not share, and
    with as much of the first service behind it as can be.
    """
    quick = Columns(
        [
            replace(
                function,
                sandbox_s=0.0,
                runtime_s=process_s,
                weights_gib=function.weights_gib - function.shared_gib,
                shared_gib=0.0,
            )
            for function, process_s in zip(cluster.functions, processes_s, strict=True)
        ]
    )
    # what a disk does not keep skips the leg from it
    nodes = [n if np.isinf(n.disk_gib) else replace(n, disk_gib=0.0) for n in cluster.all_nodes]
    found = [n.loads_s(quick, source) for n in nodes for source in sources]
    least: NDArray[np.float64] = np.maximum(np.min(found, axis=0) - quick.overlap_s, 0.0)
    return least


def function_costs(cluster: Cluster) -> FunctionCosts:
    """Tabulate sizes, least start-up times and slots of a cluster's functions."""
    functions = cluster.functions
    hosted = np.array([0.0 < cluster.host_gib >= f.weights_gib for f in functions])
    host_usd_gib_s = min(n.host_price_usd_gib_h for n in cluster.all_nodes) / 3600.0
    processes_s = least_processes_s(cluster)
    below = ("disk", "peer", *["remote"] * any(np.isfinite(n.disk_gib) for n in cluster.all_nodes))
    load_s = least_loads_s(cluster, below, processes_s)
    from_host = least_loads_s(cluster, (*below, "host"), processes_s)
    return FunctionCosts(
        size_gib=np.array([f.device_gib - f.shared_gib for f in functions]),
        load_s=load_s,
        host_load_s=np.where(hosted, from_host, load_s),
        hosted=hosted,
        host_usd_s=np.array([f.weights_gib * host_usd_gib_s for f in functions]),
        slots=np.array([f.concurrency * f.max_batch for f in functions], np.int64),
        service_s=np.array([_least_s(f, cluster.kinds) for f in functions]),
    )


def _least_s(f: Function, kinds: Sequence[str]) -> float:
    """Least service time of a request: that of a batch of one on the fastest class of GPU."""
    return f.batch_s[0] if f.batch_s else min(sum(f.service(k)) for k in kinds)


def service_times(workload: Workload, costs: FunctionCosts) -> Floats:
    """Return the least service time of every request. Shape: (N,)."""
    if workload.service_s is not None:
        return np.asarray(workload.service_s, np.float64)
    return costs.service_s[workload.function]


def find_intervals(workload: Workload, costs: FunctionCosts) -> Intervals:
    """Derive the idle intervals of every function and level. O(N log N)."""
    count = len(costs.size_gib)
    done = np.minimum(workload.arrival_s + service_times(workload, costs), workload.horizon_s)
    by_arrival = np.argsort(workload.function, kind="stable")
    by_end = np.lexsort((done, workload.function))
    sizes = np.bincount(workload.function, minlength=count)
    request_offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    arrivals = np.asarray(workload.arrival_s[by_arrival], np.float64)
    columns = _sweep(arrivals, done[by_end], request_offsets, costs.slots)
    function, level, first, start_s, end_s, busy_end_s, request_s, opener = columns
    found = np.bincount(function, minlength=count)
    return Intervals(
        function=function,
        level=level,
        first=first,
        start_s=start_s,
        end_s=end_s,
        busy_end_s=busy_end_s,
        request_s=request_s,
        opener=opener,
        arrivals=arrivals,
        offsets=np.concatenate([[0], np.cumsum(found)]).astype(np.int64),
        request_offsets=request_offsets,
    )


def pending_seconds(found: Intervals, delay_s: Floats, slots: Ints) -> Floats:
    """Waiting of the first `slots` requests from the opener on, if none starts for `delay_s`.

    Args:
        found: the intervals.
        delay_s: time from the opener's arrival until an instance is ready. Shape: (I,)
        slots: requests counted at most; more of them may belong to another level. Shape: (F,)

    Returns:
        Request-seconds. Shape: (I,)
    """
    return np.asarray(
        _pending(
            found.arrivals, found.request_offsets, found.function, found.opener, delay_s, slots
        )
    )


@njit(cache=True)
def _sweep(arrivals, ends, offsets, slots):  # type: ignore[no-untyped-def]
    """Walk each function's starts and ends in time and close an interval at every level-up."""
    total = len(arrivals)
    function = np.empty(total, np.int64)
    level = np.empty(total, np.int64)
    first = np.empty(total, np.bool_)
    start_s = np.empty(total)
    end_s = np.empty(total)
    busy_end_s = np.empty(total)
    request_s = np.zeros(total)
    opener = np.empty(total, np.int64)
    found = 0
    for fn in range(len(offsets) - 1):
        low, high = offsets[fn], offsets[fn + 1]
        levels = (high - low) // slots[fn] + 1
        last_end = np.full(levels, -1.0)
        here = np.zeros(levels, np.int64)
        since = np.zeros(levels)
        current = np.empty(levels, np.int64)
        started, ended = low, low
        while ended < high:
            inside = started - ended
            if started < high and (inside == 0 or arrivals[started] < ends[ended]):
                now = arrivals[started]
                at = inside // slots[fn]
                if here[at] == 0:
                    function[found], level[found], opener[found] = fn, at, started
                    first[found] = last_end[at] < 0.0
                    start_s[found] = max(last_end[at], 0.0)
                    end_s[found] = now
                    current[at] = found
                    found += 1
                request_s[current[at]] += here[at] * (now - since[at])
                here[at] += 1
                started += 1
            else:
                now = ends[ended]
                at = (inside - 1) // slots[fn]
                request_s[current[at]] += here[at] * (now - since[at])
                here[at] -= 1
                ended += 1
                if here[at] == 0:
                    busy_end_s[current[at]] = now
                    last_end[at] = now
            since[at] = now
    return (
        function[:found],
        level[:found],
        first[:found],
        start_s[:found],
        end_s[:found],
        busy_end_s[:found],
        request_s[:found],
        opener[:found],
    )


@njit(cache=True)
def _pending(arrivals, offsets, function, opener, delay_s, slots):  # type: ignore[no-untyped-def]
    out = np.zeros(len(function))
    for i in range(len(function)):
        if delay_s[i] <= 0.0:
            continue
        stop = min(offsets[function[i] + 1], opener[i] + slots[function[i]])
        ready = arrivals[opener[i]] + delay_s[i]
        for j in range(opener[i], stop):
            if arrivals[j] >= ready:
                break
            out[i] += ready - arrivals[j]
    return out
