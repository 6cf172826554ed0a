"""Nodes by target utilisation, as Kubernetes' Horizontal Pod Autoscaler scales replicas.

Rule: wanted = ceil(nodes up x utilisation / target), unchanged while the ratio is within the
tolerance of 1; the highest that was found in the stabilisation window counts, so that nodes come at
once and go late. Defaults are Kubernetes' (tolerance 0.1, window 300 s, a look every 15 s).
Ours: what is scaled are nodes; utilisation is memory of instances that work, load, or that queued
requests would need, over the memory of the nodes up; classes of node are filled cheapest memory
first; instances idle for `ttl_s` leave, and under pressure the least recently used.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.spec import Cluster, Rules


class HpaNodes(Policy):
    """Bring nodes up and down so that a share `target` of their memory is in use.

    Args:
        target: utilisation to hold, in (0, 1].
        window_s: stabilisation window of scaling down.
        tolerance: of the ratio of utilisation to target.
        min_nodes: at least so many nodes stay up.
        ttl_s: keep-alive of idle instances.
        tick_s: seconds between two looks.
    """

    rules = Rules(eviction="lru")

    def __init__(
        self,
        target: float = 0.7,
        window_s: float = 300.0,
        tolerance: float = 0.1,
        min_nodes: int = 1,
        ttl_s: float = 600.0,
        tick_s: float = 15.0,
    ) -> None:
        require(0.0 < target <= 1.0, "policy.target", target, "a share in (0, 1]")
        require(window_s >= 0.0, "policy.window_s", window_s, "a time >= 0")
        require(0.0 <= tolerance < 1.0, "policy.tolerance", tolerance, "a share in [0, 1)")
        require(min_nodes >= 0, "policy.min_nodes", min_nodes, "an integer >= 0")
        require(ttl_s >= 0.0, "policy.ttl_s", ttl_s, "a time >= 0")
        require(0.0 < tick_s < math.inf, "policy.tick_s", tick_s, "a time > 0")
        self.target, self.tolerance, self.min_nodes = target, tolerance, min_nodes
        self.ttl_s, self.tick_s = ttl_s, tick_s
        self._looks = 1 + int(window_s / tick_s + 1e-9)

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Forget what was found; learn sizes and prices."""
        kinds, nodes = cluster.kinds, cluster.all_nodes
        self._gib = np.array([f.device_gib for f in cluster.functions])
        self._slots = np.array([f.concurrency * f.max_batch for f in cluster.functions])
        self._count = np.array([sum(n.kind == k for n in nodes) for k in kinds])
        mine = [[n for n in nodes if n.kind == k] for k in kinds]
        memory = [sum(g.memory_gib for n in some for g in n.gpus) for some in mine]
        price = [sum(g.price_usd_h for n in some for g in n.gpus) for some in mine]
        if not all(map(math.isfinite, memory)):
            raise SpecError("gpu.memory_gib", math.inf, "finite under a policy of nodes")
        self._node_gib = np.array(memory) / np.maximum(self._count, 1)
        self._cheap_first = np.argsort(np.array(price) / np.maximum(memory, 1e-9), kind="stable")
        self._found = np.zeros((0, rows))

    def decide(self, snapshot: Snapshot) -> Decision:
        """Compare utilisation with its target."""
        unserved = np.ceil(snapshot.queued / self._slots) - snapshot.loading
        needed = snapshot.busy + snapshot.loading + np.maximum(unserved, 0.0)
        used_gib = (needed * self._gib).sum(axis=1)
        up_gib = (snapshot.nodes_up * self._node_gib).sum(axis=1)
        wanted_gib = used_gib / self.target
        steady = np.abs(wanted_gib - up_gib) <= self.tolerance * up_gib
        found = np.where(steady, up_gib, wanted_gib)
        self._found = np.concatenate([self._found, found[None]])[-self._looks :]
        return Decision(
            keep_alive_s=np.full(snapshot.idle.shape, self.ttl_s),
            nodes_wanted=self._fill(self._found.max(axis=0)),
        )

    def _fill(self, gib: NDArray[np.float64]) -> NDArray[np.int32]:
        """Nodes of each class for so much memory, cheapest first. Shape: (B,) -> (B, C)"""
        wanted = np.zeros((len(gib), len(self._count)), np.int32)
        left, floor = gib.copy(), np.full(len(gib), self.min_nodes)
        for c in self._cheap_first:
            need = np.ceil(left / self._node_gib[c] - 1e-9) if self._count[c] else 0.0 * left
            wanted[:, c] = np.clip(np.maximum(need, floor), 0, self._count[c])
            left = left - wanted[:, c] * self._node_gib[c]
            floor = np.maximum(floor - wanted[:, c], 0)
        return wanted
