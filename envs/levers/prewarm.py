"""How many instances of a function are to be ready, and on which class of GPU.

| choice | ready or loading until the next tick | new ones go to |
| --- | --- | --- |
| 0 | none is kept: idle ones leave | any class |
| 1 | those that are there | any class |
| 2, 3, 4 | at least 1, 2, 4 | the dearest class |
| 5, 6, 7 | at least 1, 2, 4 | the cheapest class |

IceBreaker's two choices (ASPLOS 2022: whether to warm up, and on which of two kinds of node), with
counts. Shapes: B rows, S slots.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.spec import Cluster
from stoker.envs.levers.lever import Actions, Bools
from stoker.envs.levers.scene import Scene, classes

COUNT = np.array([0, 0, 1, 2, 4, 1, 2, 4], np.int32)
ANY, DEAREST, CHEAPEST = -1, 0, 1
SIDE = np.array([ANY, ANY, *[DEAREST] * 3, *[CHEAPEST] * 3])


class Prewarm:
    """A count and a class."""

    instead: tuple[int, ...] = (0, 0, 1, 2, 3, 2, 3, 4)
    neutral = 1

    def mask(self, cluster: Cluster) -> Bools:
        """Only what fits on the class; no cheapest class where there is only one. Shape: (F, 8)"""
        room = rooms(cluster)
        if len(cluster.kinds) == 1:
            room[:, CHEAPEST] = 0
        mask: Bools = room[:, np.maximum(SIDE, 0)] >= COUNT
        return mask

    def orders(self, choice: Actions, scene: Scene) -> dict[str, NDArray[Any]]:
        """Floor, class and keep-alive. Shape: (B, S)"""
        side, count = SIDE[choice], COUNT[choice]
        kind = np.take_along_axis(scene.classes, np.maximum(side, 0), axis=1)
        return {
            "prewarm": count,
            "gpu_class": np.where(side == ANY, ANY, kind).astype(np.int32),
            "keep_alive_s": np.where(choice > 0, np.inf, 0.0),
        }


def rooms(cluster: Cluster) -> NDArray[np.int64]:
    """Instances of each function that the dearest and the cheapest class hold. Shape: (F, 2)"""
    return np.stack([_room(cluster, kind) for kind in classes(cluster)], axis=1)


def _room(cluster: Cluster, kind: int) -> NDArray[np.int64]:
    """Instances of each function that the GPUs of a class hold together. Shape: (F,)"""
    of = cluster.columns
    memory_gib = [g.memory_gib for g in cluster.gpus if g.kind == cluster.kinds[kind]]
    share_gib = np.maximum(of.device_gib / of.gpus, 1e-12)
    shares = np.floor(np.minimum(np.divide.outer(memory_gib, share_gib), 1e9)).sum(axis=0)
    room: NDArray[np.int64] = (shares // of.gpus).astype(np.int64)
    return room
