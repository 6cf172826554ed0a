"""Run rows under a policy that decides at events, too: as it goes idle, or for every batch.

Shapes: B rows.  Units: seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster import engine
from stoker.envs.cluster.batch_due import BatchRows, Books
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.policy_like import BatchedLike, PolicyLike

if TYPE_CHECKING:
    from stoker.envs.cluster.simulation import Simulation


def run_under(
    policy: PolicyLike, sim: Simulation, until_s: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Run each row to its time or its next notice; return the states. Shape: (B,)

    A policy that has `act` decides whenever a function becomes idle, one that has `batches`
    whenever a batch may start.
    """
    if isinstance(policy, BatchedLike):
        return _run_batched(policy, sim, until_s)
    act = getattr(policy, "act", None)
    status = sim.run(until_s)
    while act is not None and np.any(status == engine.PAUSED):
        status = sim.run(until_s, act(sim.pending.observation))
    return status


def _run_batched(
    policy: BatchedLike, sim: Simulation, until_s: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Batch policies keep a state a row, so they are asked about one row."""
    rows, slots = sim.state.fn.shape
    if rows != 1:
        raise SpecError("clusters", rows, "1 under a policy of batches")
    sim.state.rows["batching"] = 1
    asked = BatchRows(sim, Books.empty(1, slots, True, policy.sizes), True, policy.wait_share)
    return asked.run_until(until_s, policy.batches.decide)
