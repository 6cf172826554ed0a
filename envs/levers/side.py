"""On which class of GPU new instances start.

| choice | new instances go to |
| --- | --- |
| 0 | any class |
| 1 | the dearest class |
| 2 | the cheapest class |

Shapes: B rows, S slots.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.spec import Cluster
from stoker.envs.levers.lever import Actions, Bools
from stoker.envs.levers.prewarm import ANY, rooms
from stoker.envs.levers.scene import Scene


class Side:
    """Any, the dearest, the cheapest."""

    instead: tuple[int, ...] = (0, 0, 0)
    neutral = 0

    def mask(self, cluster: Cluster) -> Bools:
        """Only classes that hold the function, where there is more than one. Shape: (F, 3)"""
        mask = np.ones((len(cluster.functions), len(self.instead)), np.bool_)
        mask[:, 1:] = (rooms(cluster) > 0) & (len(cluster.kinds) > 1)
        return mask

    def orders(self, choice: Actions, scene: Scene) -> dict[str, NDArray[Any]]:
        """The class. Shape: (B, S)"""
        kind = np.take_along_axis(scene.classes, np.maximum(choice - 1, 0), axis=1)
        return {"gpu_class": np.where(choice == 0, ANY, kind).astype(np.int32)}
