"""An exported policy of `stoker/Batching-v0`: asked about one function, whenever a batch may start.

The graph takes observations (N, K) float32 and returns `preference` (N, A) over wait, drop and the
batch sizes, illegal ones far below the others. Shapes: B rows, K features, A = 2 + Z actions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.batch_policy import BatchPolicy, Due, Ints
from stoker.baselines.bundle import Graph, digest
from stoker.envs.batching_core import Observation
from stoker.envs.cluster.observe_batch import FEATURES, K

BATCH = "a batch may start"


def batch_schema(sizes: list[int]) -> str:
    """Digest of the columns at a decision on a batch, and of the sizes."""
    return digest([list(FEATURES), sizes])


class BatchBundle(BatchPolicy):
    """The policy of a bundle that is asked whenever a batch may start.

    Args:
        folder: where manifest and graph lie.
    """

    def __init__(self, folder: str | Path) -> None:
        self._graph = Graph(folder, BATCH, ("sizes", "wait_share"))
        self.folder, self.manifest = self._graph.folder, self._graph.manifest
        self.sizes = [int(size) for size in self.manifest["sizes"]]
        self.wait_share = float(self.manifest["wait_share"])
        self._graph.check(batch_schema(self.sizes))

    def decide(self, observation: Observation, due: Due) -> Ints:
        """Obey the graph's preference. Shapes: (B, K) -> (B,)"""
        action: Ints = self.prefer(observation).argmax(axis=1)
        return action

    def prefer(self, observation: Observation) -> NDArray[np.float32]:
        """Run the graph. Shapes: (N, K) -> (N, A)

        Raises:
            ValueError: it gives a preference that is not finite.
        """
        (preference,) = self._graph.run(observation, K)
        if not np.isfinite(preference).all():
            raise ValueError(f"{self.folder}: a preference that is not finite")
        return preference
