"""An exported policy of the environments with ticks: one small network for all functions.

The graph takes every function with the columns of its cluster (N, SLOT + C) float32 and returns
`preference` (N, A) over the joint choices of its levers; the legal choice that it prefers is
obeyed. A recurrent graph takes `memory` (N, M) beside it, zeros at first, and returns the next.
Shapes: B rows, S slots, N = B * S, A joint choices, M numbers remembered of a function.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.base import Policy
from stoker.baselines.bundle import Graph, digest
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.observe import FEATURES
from stoker.envs.cluster.observe_all import CLUSTER_FEATURES, SLOT, C
from stoker.envs.cluster.observe_state import STATE
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster.tick_observer import by_function
from stoker.envs.levers import LEVERS, Levers, Scene

TICK = "a tick"


def tick_schema(levers: Levers) -> str:
    """Digest of the columns at a tick and of the levers' choices."""
    names = [type(lever).__name__ for lever in levers.levers]
    columns = [list(FEATURES), list(STATE), list(CLUSTER_FEATURES)]
    return digest([*columns, names, list(levers.choices)])


class TickBundle(Policy):
    """The policy of a bundle that is asked at every tick.

    Args:
        folder: where manifest and graph lie.
        slo_target: share of requests that should be in time, as the network sees it.
    """

    observes = True

    def __init__(self, folder: str | Path, slo_target: float = 0.95) -> None:
        self._graph = Graph(folder, TICK, ("rules", "levers", "tick_s"))
        self.folder, self.manifest = self._graph.folder, self._graph.manifest
        unknown = sorted(set(self.manifest["levers"]) - set(LEVERS))
        if unknown:
            raise SpecError("bundle.levers", unknown, " | ".join(LEVERS))
        self.levers = Levers(*(LEVERS[name]() for name in self.manifest["levers"]))
        self._graph.check(tick_schema(self.levers))
        self.rules = Rules(**self.manifest["rules"])
        self.tick_s = float(self.manifest["tick_s"])
        self.slo_target = slo_target

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Take over the cluster's clock, its sizes and what is legal on it."""
        functions = len(cluster.functions)
        self._scene = Scene.empty(rows, functions)
        for k in range(rows):
            self._scene.fill(k, cluster)
        self.tick_s = float(self.manifest["tick_s"]) * float(self._scene.stretch[0])
        legal = self.levers.joint(self.levers.mask(cluster, functions))
        self._legal = np.tile(legal, (rows, 1))
        self._memory = self._fresh(rows * functions)

    def prefer(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the graph with nothing remembered. Shapes: (N, SLOT + C) -> (N, A)

        Raises:
            ValueError: it gives a preference that is not finite.
        """
        return self._run(observation, self._fresh(len(observation)))[0]

    def _fresh(self, functions: int) -> NDArray[np.float32]:
        return np.zeros((functions, self._graph.memory), np.float32)

    def _run(
        self, observation: NDArray[np.float32], memory: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Shapes: (N, SLOT + C), (N, M) -> (N, A), (N, M)"""
        given = {"memory": memory} if self._graph.memory else {}
        preference, *later = self._graph.run(observation, SLOT + C, **given)
        if not np.isfinite(preference).all():
            raise ValueError(f"{self.folder}: a preference that is not finite")
        return preference, later[0] if later else memory

    def decide(self, snapshot: Snapshot) -> Decision:
        """Obey the graph's preference for every function of every row."""
        seen = by_function(snapshot.observation)
        preference, self._memory = self._run(seen, self._memory)
        joint = np.where(self._legal, preference, -np.inf).argmax(axis=1)
        parts = np.stack(np.unravel_index(joint, self.levers.choices), axis=-1)
        choices = parts.reshape(len(snapshot.now_s), -1, len(self.levers.choices))
        return self.levers.decide(choices, self._scene)
