"""How many waiting requests start a batch.

| choice | a batch starts with | or when its oldest request has waited |
| --- | --- | --- |
| 0 | 1 request | - |
| 1 | half of the function's limit | a quarter of its latency target (1 s without one) |
| 2 | the function's limit | likewise |

Shapes: B rows, S slots.  Units: seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.spec import Cluster
from stoker.envs.levers.lever import Actions, Bools
from stoker.envs.levers.scene import Scene


class Batch:
    """At once, half a batch, a full batch."""

    instead: tuple[int, ...] = (0, 0, 1)
    neutral = 0

    def mask(self, cluster: Cluster) -> Bools:
        """Only choices that differ for the function's limit. Shape: (F, 3)"""
        limit = cluster.columns.max_batch
        return np.stack([limit >= 1, limit >= 3, limit >= 2], axis=1)

    def orders(self, choice: Actions, scene: Scene) -> dict[str, NDArray[Any]]:
        """Size and wait. Shape: (B, S)"""
        limit = scene.max_batch
        least = np.where(choice == 0, 1, np.where(choice == 1, (limit + 1) // 2, limit))
        own_s = np.where(np.isfinite(scene.slo_s), scene.slo_s / 4.0, scene.stretch[:, None])
        return {"min_batch": least.astype(np.int32), "batch_wait_s": own_s}
