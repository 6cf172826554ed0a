"""Where the weights of a function are to lie until the next tick.

| choice | on the device | in host memory |
| --- | --- | --- |
| 0 | leaves | - |
| 1 | leaves | stays there |
| 2 | stays, if it is there | - |
| 3 | stays, if it is there | afterwards, if it is evicted |
| 4 | leaves | is fetched now |
| 5 | is loaded now | afterwards, if it is evicted |

Shapes: B rows, S slots.  Units: seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.spec import Cluster
from stoker.envs.levers.keepalive import hostable
from stoker.envs.levers.lever import Actions, Bools
from stoker.envs.levers.scene import Scene

STAYS = np.array([0.0, 0.0, np.inf, np.inf, 0.0, np.inf])
HOSTED = np.array([0.0, np.inf, 0.0, np.inf, np.inf, np.inf])
TO_HOST, TO_DEVICE = 4, 5


class Swap:
    """One place out of six."""

    instead: tuple[int, ...] = (0, 0, 0, 2, 1, 2)
    neutral = 3

    def mask(self, cluster: Cluster) -> Bools:
        """No host copy without weights and room for them. Shape: (F, 6)"""
        mask = np.ones((len(cluster.functions), len(self.instead)), np.bool_)
        mask[:, [1, 3, TO_HOST]] = hostable(cluster)[:, None]
        return mask

    def orders(self, choice: Actions, scene: Scene) -> dict[str, NDArray[Any]]:
        """Keep-alive on both tiers, and loads ahead into them. Shape: (B, S)"""
        return {
            "keep_alive_s": STAYS[choice],
            "host_keep_alive_s": HOSTED[choice],
            "prewarm_host": (choice == TO_HOST).astype(np.int32),
            "prewarm": (choice == TO_DEVICE).astype(np.int32),
        }
