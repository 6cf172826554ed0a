"""The best of each lever together: the opponent for `stoker/Cluster-v0`.

Rule: instances stay, leave and are loaded again as the hazard index says (baselines/hazard.py);
those likely to be called within the time of a load are ready (baselines/lead_time.py); weights that
leave a GPU stay in host memory, the oldest copy going first; a batch is no larger than Nexus's
(SOSP 2019: the largest b with factor x p(b) <= target), and starts at once.
Its parts are published or ours, as their files say; the combination is ours.

Shapes: B rows, F functions.  Units: seconds.
"""

from __future__ import annotations

import numpy as np

from stoker.baselines.hazard import HazardIndex
from stoker.baselines.lead_time import LeadTime
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import require
from stoker.envs.cluster.spec import Cluster


class Combined(HazardIndex):
    """Hazard index, lead time, host memory and Nexus.

    Args:
        warm: chance of a call within the lead from which an instance is ready; above 1 = none is.
        host: keep weights in host memory.
        factor: latency target over the time of the largest batch.
        tick_s: seconds between decisions.
        **index: arguments of the hazard index.
    """

    def __init__(
        self,
        warm: float = 0.5,
        host: bool = True,
        factor: float = 2.0,
        tick_s: float = 60.0,
        **index: float,
    ) -> None:
        super().__init__(**index)  # type: ignore[arg-type]
        require(warm >= 0.0, "policy.warm", warm, "a chance >= 0")
        require(factor >= 1.0, "policy.factor", factor, ">= 1")
        self.warm, self.host, self.factor = warm, host, factor
        self.tick_s = tick_s

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Work out every function's batch."""
        self._lead = LeadTime(warm=min(self.warm, 1.0), tick_s=self.tick_s)
        self._lead.reset(cluster, rows)
        of = cluster.columns
        room_s = of.slo_s / self.factor - of.alpha_s
        largest = np.floor(np.minimum(room_s / np.maximum(of.beta_s, 1e-12), 1e9) + 1e-9)
        self._batch = np.clip(largest, 1, of.max_batch).astype(np.int32)

    def decide(self, snapshot: Snapshot) -> Decision:
        """What the index does not plan itself."""
        shape = snapshot.idle.shape
        chance = self._lead.chance(snapshot)
        floors = self._lead.floors(snapshot, chance)
        return Decision(
            prewarm=np.where(self.warm > 1.0, 0, floors),
            host_keep_alive_s=np.full(shape, np.inf if self.host else 0.0),
            max_batch=np.broadcast_to(self._batch, shape).copy(),
        )
