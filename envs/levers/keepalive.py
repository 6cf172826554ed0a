"""How long an idle instance stays on the device, and whether its weights stay in host memory.

| choice | on the device, while idle | then |
| --- | --- | --- |
| 0 | drop at once | gone |
| 1 | keep while idle for less than 15 s | gone |
| 2 | keep to the next tick | gone (if evicted) |
| 3, 4, 5 | as 0, 1, 2 | weights stay in host memory to the next tick |

Shapes: B rows, S slots.  Units: seconds, GiB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.spec import Cluster
from stoker.envs.levers.lever import Actions, Bools
from stoker.envs.levers.scene import Scene

DEVICE = 3
"""Device choices; from here on weights stay in host memory afterwards."""
SHORT_S = 15.0
"""The short keep-alive, at uncompressed time."""


class KeepAlive:
    """Device choice + 3 x host choice."""

    instead: tuple[int, ...] = (0, 0, 0, 0, 1, 2)
    neutral = 2

    def mask(self, cluster: Cluster) -> Bools:
        """No host copy without weights and room for them. Shape: (F, 6)"""
        mask = np.ones((len(cluster.functions), len(self.instead)), np.bool_)
        mask[:, DEVICE:] = hostable(cluster)[:, None]
        return mask

    def orders(self, choice: Actions, scene: Scene) -> dict[str, NDArray[Any]]:
        """Keep-alive on both tiers. Shape: (B, S)"""
        device = choice % DEVICE
        short_s = SHORT_S * scene.stretch[:, None]
        keep_s = np.where(device == 1, short_s, np.where(device == 0, 0.0, np.inf))
        host_s = np.where(choice >= DEVICE, np.inf, 0.0)
        return {"keep_alive_s": keep_s, "host_keep_alive_s": host_s}


def hostable(cluster: Cluster) -> Bools:
    """Functions with weights that some host memory holds. Shape: (F,)"""
    gib = cluster.columns.weights_gib
    return (gib > 0.0) & (gib <= cluster.host_gib)
