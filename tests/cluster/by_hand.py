"""Short runs whose figures can be worked out by hand: a few calls, orders, when service starts.

Units: seconds, GiB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from table_checks import check_row

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.faults import Faults
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Rules
from stoker.envs.workload.workload import Workload

Calls = list[tuple[float, int]]
"""Time and function of every request."""


def model(name: str = "a", gib: float = 4.0, **changes: Any) -> Function:
    """As large on disk as on a device; nothing but its load takes time."""
    return Function(name, gib, gib, **changes)


def workload(
    cluster: Cluster, calls: Calls, until_s: float = 1e6, service_s: list[float] | None = None
) -> Workload:
    names = tuple(f.name for f in cluster.functions)
    at, which = np.array([t for t, _ in calls], float), np.array([f for _, f in calls], np.int32)
    service = None if service_s is None else np.array(service_s)
    return Workload(at, which, names, until_s, service)


def start(
    cluster: Cluster,
    calls: Calls,
    *,
    until_s: float = 1e6,
    faults: Faults | None = None,
    **rules: Any,
) -> Simulation:
    """One row at time 0; calls may be given in any order of time."""
    calls = sorted(calls, key=lambda call: call[0])
    work = workload(cluster, calls, until_s)
    return Simulation([cluster], [work], Rules(**rules), faults=[faults])


def order(sim: Simulation, **orders: Any) -> None:
    """Standing orders for row 0: a value for all functions, or one each."""
    n = sim.state.fn.shape[1]
    sim.apply(Decision(**{k: np.broadcast_to(np.asarray(v), (1, n)) for k, v in orders.items()}))


def starts(sim: Simulation) -> list[float]:
    """Run to the end; when the service of each request began."""
    sim.run()
    check_row(sim, 0)
    found: list[float] = sim.result().outcome.start_s.tolist()
    return found
