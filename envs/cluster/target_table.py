"""Targets made legal, and written into the engine's tables.

Shapes: N rows of the table, B clusters, F functions, G GPUs, C classes of GPU.  Units: bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.fill import to_bytes
from stoker.envs.cluster.spec import Cluster, Function
from stoker.envs.cluster.tables import TARGET
from stoker.envs.cluster.targets import ANY, DEVICE, HOST, NO_LIMIT, Targets

if TYPE_CHECKING:
    from stoker.envs.cluster.state import State


@dataclass
class _Room:
    """Memory that floors may still take, in the order of their rows."""

    cluster: Cluster

    def __post_init__(self) -> None:
        self.device = [to_bytes(g.memory_gib) for g in self.cluster.gpus]
        self.host = [to_bytes(n.host_gib) for n in self.cluster.all_nodes]
        self.node = [n for n, node in enumerate(self.cluster.all_nodes) for _ in node.gpus]
        self.families: set[tuple[int, str]] = set()
        self.copies: set[tuple[int, int]] = set()

    def instances(self, f: int, gpus: list[int], asked: int) -> int:
        """Take room for so many instances of f on these GPUs; return how many fit."""
        spec, left = self.cluster.functions[f], asked
        if spec.gpus > 1:
            return self._spans(spec, gpus, asked)
        own = to_bytes(spec.device_gib) - to_bytes(spec.shared_gib)
        for g in gpus:
            known = (g, spec.family) in self.families
            free = self.device[g] - (0 if known else to_bytes(spec.shared_gib))
            take = min(left, free // own if own > 0 else left) if free >= 0 else 0
            if take > 0:
                self.device[g] = free - take * own
                self.families.add((g, spec.family))
                left -= take
        return asked - left

    def _spans(self, spec: Function, gpus: list[int], asked: int) -> int:
        """Likewise where each takes several GPUs of a class on a node."""
        share, found = to_bytes(spec.device_gib / spec.gpus), 0
        specs = self.cluster.gpus
        while found < asked:
            alike: dict[tuple[int, str], list[int]] = {}
            for g in gpus:
                if self.device[g] >= share:
                    alike.setdefault((self.node[g], specs[g].kind), []).append(g)
            taken = next((some for some in alike.values() if len(some) >= spec.gpus), None)
            if taken is None:
                break
            for g in taken[: spec.gpus]:
                self.device[g] -= share
            found += 1
        return found

    def host_copies(self, f: int, nodes: list[int], asked: int) -> int:
        """Likewise for host copies, of which a node holds one."""
        need, found = to_bytes(self.cluster.functions[f].weights_gib), 0
        for n in nodes:
            if found < asked and (n, f) not in self.copies and 0 < need <= self.host[n]:
                self.host[n] -= need
                self.copies.add((n, f))
            found += (n, f) in self.copies
        return min(found, asked)

    def fit(self, row: dict[str, Any]) -> int:
        """The part of a row's floor for which there is memory."""
        f, g, asked = row["function"], row["gpu"], row["min"]
        kind = None if row["gpu_class"] == ANY else self.cluster.kinds[row["gpu_class"]]
        if row["tier"] == DEVICE:
            kinds = [gpu.kind for gpu in self.cluster.gpus]
            gpus = [g] if g != ANY else [k for k, c in enumerate(kinds) if kind in (None, c)]
            return self.instances(f, gpus, asked)
        named = [n for n, node in enumerate(self.cluster.all_nodes) if kind in (None, node.kind)]
        return self.host_copies(f, [self.node[g]] if g != ANY else named, asked)


def legalize_targets(
    targets: Targets | None, clusters: Sequence[Cluster], possible: bool
) -> tuple[Targets | None, NDArray[np.int64]]:
    """Clip targets to the nearest that can be carried out, and count the rows that changed.

    A row that names no function, GPU or class of its cluster is left out. Ends out of range go to
    the nearest end, `min` to `max`, a floor for which there is no memory (in order of the rows) to
    what fits, a weight that is no number >= 0 to 0; a class beside a GPU is ignored.

    Args:
        targets: what a Decision says, or None.
        clusters: one a row of the simulation.
        possible: whether the backend can carry out targets at all.

    Returns:
        Legal targets (None = what stands stays), and clips a cluster. Shape: (B,)

    Raises:
        SpecError: a row names a cluster that is not there.
    """
    clipped = np.zeros(len(clusters), np.int64)
    if targets is None:
        return None, clipped
    row = targets.column("row")
    if np.any((row < 0) | (row >= len(clusters))):
        wrong = row[(row < 0) | (row >= len(clusters))][0]
        raise SpecError("targets.row", int(wrong), f"0..{len(clusters) - 1}")
    if not possible:
        return None, clipped + np.bincount(row, minlength=len(clusters))
    legal = _in_range(targets, clusters)
    keep = np.array([legal[name] >= ANY for name in ("gpu", "gpu_class")]).all(axis=0)
    keep &= legal["function"] >= 0
    rooms = [_Room(cluster) for cluster in clusters]
    for j in np.flatnonzero(keep & (legal["min"] > 0)).tolist():
        legal["min"][j] = rooms[row[j]].fit({k: v[j].item() for k, v in legal.items()})
    changed = ~keep
    for name, values in legal.items():
        changed |= values != targets.column(name)
    clipped += np.bincount(row[changed], minlength=len(clusters))
    return Targets(**{name: values[keep] for name, values in legal.items()}), clipped


def _in_range(targets: Targets, clusters: Sequence[Cluster]) -> dict[str, NDArray[Any]]:
    """Columns with every value in its range; -2 where a name is of nothing."""
    found = {f.name: targets.column(f.name).copy() for f in fields(targets)}
    sizes = {
        "function": [len(c.functions) for c in clusters],
        "gpu": [len(c.gpus) for c in clusters],
        "gpu_class": [len(c.kinds) for c in clusters],
    }
    for name, most in sizes.items():
        there = (found[name] >= ANY) & (found[name] < np.array(most)[found["row"]])
        found[name] = np.where(there, found[name], ANY - 1)
    found["gpu_class"] = np.where(found["gpu"] >= 0, ANY, found["gpu_class"])
    found["tier"] = np.clip(found["tier"], DEVICE, HOST)
    found["max"] = np.clip(found["max"], 0, NO_LIMIT)
    found["min"] = np.clip(found["min"], 0, found["max"])
    weight = found["weight"]
    shared = np.isfinite(weight) & (weight > 0.0) & (found["tier"] == DEVICE)
    found["weight"] = np.where(shared, weight, 0.0)
    return found


def fill_targets(state: State, targets: Targets) -> None:
    """Write legal targets into the tables, in place of those that stand."""
    rows = len(state.rows)
    order = np.lexsort((targets.column("function"), targets.column("row")))  # stable
    columns = {f.name: targets.column(f.name)[order] for f in fields(targets)}
    row, function = columns["row"], columns["function"]
    count = np.bincount(row, minlength=rows)
    place = np.arange(len(row)) - np.repeat(count.cumsum() - count, count)
    if len(row) and count.max() > state.target.shape[1]:
        state.target = np.zeros((rows, int(count.max())), TARGET)
        state.point()
    state.target[...] = np.zeros((), TARGET)
    for name in ("gpu", "tier", "min", "max", "weight"):
        state.target[name][row, place] = columns[name]
    state.target["kind"][row, place] = columns["gpu_class"]
    fn = state.fn
    for name in ("target_first", "target_n", "placed", "hosted", "weighted", "turn"):
        fn[name] = 0
    np.add.at(fn["target_n"], (row, function), 1)
    np.add.at(fn["placed"], (row, function), columns["tier"] == DEVICE)
    np.add.at(fn["hosted"], (row, function), columns["tier"] == HOST)
    np.add.at(fn["weighted"], (row, function), columns["weight"] > 0.0)
    _, first = np.unique(np.stack([row, function]), axis=1, return_index=True)
    fn["target_first"][row[first], function[first]] = place[first]
    state.rows["retarget"] = state.rows["placing"] = 1
