"""A recurrent policy of the ids with ticks, run as a Policy: its memory does not go into a bundle.

Shapes: B rows, S functions a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sb3_contrib import RecurrentPPO

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.spec import Cluster
from stoker.envs.cluster.tick_observer import by_function
from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.levers import Scene


class RecurrentTicks(Policy):
    """What a recurrent network finds most likely, with a memory for every function.

    Args:
        model: the network.
        core: the environment that it was trained on.
    """

    observes = True

    def __init__(self, model: RecurrentPPO, core: ClusterVectorEnv) -> None:
        self._model, self._levers = model, core.levers
        self.rules, self._tick_s = core.rules, core.tick_s
        self.slo_target = float(np.mean(core.slo.range))

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Forget, and take over the cluster's clock and sizes."""
        functions = len(cluster.functions)
        self._memory: Any = None
        self._scene = Scene.empty(rows, functions)
        for k in range(rows):
            self._scene.fill(k, cluster)
        self.tick_s = self._tick_s * float(self._scene.stretch[0])
        self._mask = np.tile(self._levers.mask(cluster, functions), (rows, 1, 1))

    def decide(self, snapshot: Snapshot) -> Decision:
        """Act for every function of every row."""
        seen = by_function(snapshot.observation)
        first = np.full(len(seen), self._memory is None)
        joint, self._memory = self._model.predict(seen, self._memory, first, deterministic=True)
        parts = np.stack(np.unravel_index(joint, self._levers.choices), axis=-1)
        asked = parts.reshape(*self._mask.shape[:2], -1)
        return self._levers.decide(self._levers.legalise(asked, self._mask)[0], self._scene)
