"""What is taken off the priced bound so that it also covers refusing and starving requests.

Both are computed once, at the final price of memory, and are 0 unless a refusal or an endless wait
is cheaper than serving.

Shapes: I intervals, K time bins, N requests.  Units: seconds, GiB, dollars.
Source: ours; the arguments stand at each function.
"""

from __future__ import annotations

import numpy as np

from stoker.baselines.bounds.intervals import Floats, service_times
from stoker.baselines.bounds.relaxation import Relaxation
from stoker.envs.cluster.spec import Cluster
from stoker.envs.workload import Workload


def refusals(
    cluster: Cluster, workload: Workload, relaxed: Relaxation, lam: Floats, *, prewarm: bool
) -> float:
    """Most that refusing requests can save below D: what exceeds `drop_usd` of serving one alone.

    A plan that refuses the set R becomes one that serves all when each of R gets an instance of
    its own, just in time. So cost >= D - sum over requests of (that price - drop)+.
    """
    drop_usd = cluster.objective.drop_usd
    if drop_usd == 0.0 or len(workload) == 0:
        return 0.0
    fn, costs = workload.function, relaxed.costs
    load_s, arrival_s = costs.load_s[fn], workload.arrival_s
    rate = np.concatenate([[0.0], np.cumsum((relaxed.device_usd_gib_s + lam) * relaxed.widths_s)])
    begin_s = np.maximum(arrival_s - load_s, 0.0) if prewarm else arrival_s
    start_s = np.maximum(arrival_s, begin_s + load_s)
    end_s = start_s + service_times(workload, costs)
    held = np.interp(end_s, relaxed.edges_s, rate) - np.interp(begin_s, relaxed.edges_s, rate)
    alone = costs.size_gib[fn] * held + cluster.objective.load_usd_s * load_s
    alone += cluster.objective.wait_usd_s * (start_s - arrival_s)
    return float(np.maximum(alone - drop_usd, 0.0).sum())


def starvation(relaxed: Relaxation, lam: Floats, horizon_s: float) -> float:
    """Most that a run can save by ending at the horizon with requests still waiting.

    A function that is off in the gap before an arrival at A and never starts again pays waiting
    over [A, horizon]; the relaxation has charged at most kappa there, and one reload for that gap.
    This can be so for one gap a function, the last in which it is off.
    """
    found, costs = relaxed.intervals, relaxed.costs
    rate = relaxed.device_usd_gib_s + lam
    fixed_usd = relaxed.fixed_usd
    total = 0.0
    for fn in range(len(costs.size_gib)):
        mine = slice(*found.offsets[fn : fn + 2])
        if mine.start == mine.stop:
            continue
        kappa = np.minimum(costs.size_gib[fn] * rate, relaxed.wait_usd_s)
        before = np.concatenate([[0.0], np.cumsum(kappa * relaxed.widths_s)])
        end_s, start_s = found.end_s[mine], found.start_s[mine]
        at_end = np.interp(end_s, relaxed.edges_s, before)
        charged = np.where(
            found.first[mine], np.inf, at_end - np.interp(start_s, relaxed.edges_s, before)
        )
        for row in range(2):
            lead = np.interp(end_s - relaxed.lead_s[row, mine], relaxed.edges_s, before)
            charged = np.minimum(charged, fixed_usd[row, mine] + at_end - lead)
        extra = relaxed.wait_usd_s * (horizon_s - end_s) - (before[-1] - at_end)
        saved = np.where(found.level[mine] == 0, charged - extra, 0.0)
        total += max(float(saved.max()), 0.0)
    return total
