"""Do planner, backend and workers agree on what each device holds?

Units: bytes.
"""

from __future__ import annotations

import asyncio

from stoker.envs.cluster.spec import GIB, Cluster
from stoker.runtime.backend import TorchBackend
from stoker.runtime.planner import Planner
from stoker.runtime.process import OrderFailed, WorkerDied


async def disagreements(
    cluster: Cluster, planner: Planner, backend: TorchBackend
) -> list[str] | None:
    """Return a line for each device whose planner, ledger and arena say different sums.

    None if that cannot be said now: something is being loaded, or a worker died meanwhile. Workers
    answer after all that they were ordered before, so drops under way do no harm.
    """
    seen = planner.snapshot()
    if seen.loads_in_progress[0]:
        return None
    believed = [
        round((gpu.memory_gib - float(free)) * GIB)
        for gpu, free in zip(cluster.gpus, seen.free_gib[0], strict=True)
    ]
    ledger = backend.ledger.device
    try:
        states = await asyncio.gather(*(worker.order("ping") for worker in backend.workers))
    except (OrderFailed, WorkerDied):
        return None
    return [
        f"device {gpu}: {sums[0]} bytes by the planner, {sums[1]} by the ledger, {sums[2]} taken"
        for gpu, sums in enumerate(
            zip(believed, ledger, (state.value["used"] for state in states), strict=True)
        )
        if len(set(sums)) > 1
    ]
