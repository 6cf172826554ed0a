"""What a lever's orders depend on beside the choice: figures of each row's cluster.

Shapes: B rows, S slots.  Units: seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.spec import Cluster

Floats = NDArray[np.float64]
FIRST_BIN_S = 3.0
"""First bin of the gap histograms at uncompressed time."""


@dataclass(frozen=True)
class Scene:
    """Figures of the clusters of all rows."""

    stretch: Floats
    """Seconds of the row's clock in an uncompressed second. Shape: (B,)"""
    classes: NDArray[np.int32]
    """Numbers of the dearest and the cheapest class of GPU. Shape: (B, 2)"""
    max_batch: NDArray[np.int64]
    """The functions' own limits. Shape: (B, S)"""
    slo_s: Floats
    """Their latency targets. Shape: (B, S)"""

    @classmethod
    def empty(cls, rows: int, slots: int) -> Scene:
        """Allocate for so many rows."""
        each = (rows, slots)
        classes = np.zeros((rows, 2), np.int32)
        return cls(np.ones(rows), classes, np.ones(each, np.int64), np.full(each, np.inf))

    def fill(self, k: int, cluster: Cluster) -> None:
        """Take the figures of row k's cluster."""
        of = cluster.columns
        self.stretch[k], self.classes[k] = cluster.first_bin_s / FIRST_BIN_S, classes(cluster)
        self.max_batch[k, : len(cluster.functions)] = of.max_batch
        self.slo_s[k, : len(cluster.functions)] = of.slo_s


def classes(cluster: Cluster) -> tuple[int, int]:
    """Numbers of the classes of GPU whose memory is dearest and cheapest, the first of equals."""
    price = [
        max(gpu.usd_gib_s for gpu in cluster.gpus if gpu.kind == kind) for kind in cluster.kinds
    ]
    return int(np.argmax(price)), int(np.argmin(price))
