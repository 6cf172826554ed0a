"""Whether the weights lie in host memory when they are not on the device.

| choice | in host memory |
| --- | --- |
| 0 | - |
| 1 | stay there after the device |
| 2 | are fetched now, and stay |

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


class HostCopy:
    """None, kept, fetched."""

    instead: tuple[int, ...] = (0, 0, 0)
    neutral = 1

    def mask(self, cluster: Cluster) -> Bools:
        """No copy without weights and room for them. Shape: (F, 3)"""
        mask = np.ones((len(cluster.functions), len(self.instead)), np.bool_)
        mask[:, 1:] = hostable(cluster)[:, None]
        return mask

    def orders(self, choice: Actions, scene: Scene) -> dict[str, NDArray[Any]]:
        """Keep-alive and fetches. Shape: (B, S)"""
        return {
            "host_keep_alive_s": np.where(choice > 0, np.inf, 0.0),
            "prewarm_host": (choice == 2).astype(np.int32),
        }
