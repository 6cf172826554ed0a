"""What becomes of an idle instance: an order, or the hazard index's plan, as it is or bent.

| choice | on the device |
| --- | --- |
| 0 | leaves |
| 1 | stays to the next tick |
| 2 | is loaded now, and stays |
| 3 | as the hazard index plans (rules/hazard.py), at the instant when the function becomes idle |
| 4, 5 | likewise, a cold start counting 1/2.2, 2.2 times, in the order of eviction, too |
| 6 | as planned, but never loaded ahead |
| 7 | as planned, loaded ahead at a quarter of the price of memory |

A residual on the heuristic: a learner that begins with choice 3 begins as the heuristic. It takes
`Rules(eviction="hazard", plan="hazard")`.

Shapes: B rows, S slots.  Units: seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.decision import AS_ORDERED
from stoker.envs.cluster.spec import Cluster
from stoker.envs.levers.lever import Actions, Bools
from stoker.envs.levers.scene import Scene

STAYS = np.array([0.0, *[np.inf] * 7])
VARIANT = np.array([*[AS_ORDERED] * 3, 0, 0, 0, 1, 2], np.int32)
MULTIPLIER = np.array([1.0, 1.0, 1.0, 1.0, 1.0 / 2.2, 2.2, 1.0, 1.0])
LOAD = 2


class Plan:
    """One choice out of eight."""

    instead: tuple[int, ...] = (0,) * 8
    neutral = 3

    def mask(self, cluster: Cluster) -> Bools:
        """Everything is legal. Shape: (F, 8)"""
        return np.ones((len(cluster.functions), len(self.instead)), np.bool_)

    def orders(self, choice: Actions, scene: Scene) -> dict[str, NDArray[Any]]:
        """Who plans, how it weighs a cold start, and the orders where it does not. Shape: (B, S)"""
        return {
            "keep_alive_s": STAYS[choice],
            "prewarm": (choice == LOAD).astype(np.int32),
            "variant": VARIANT[choice],
            "multiplier": MULTIPLIER[choice],
        }
