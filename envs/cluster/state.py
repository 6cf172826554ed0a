"""Build the engine's tables from specs and workloads, and let them grow.

Shapes: B rows, F functions (of the largest row), I instance slots, G GPUs, N requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.events import FAULT as FAULT_EVENT
from stoker.envs.cluster.events import KIND_BITS
from stoker.envs.cluster.faults import LOAD_STREAM, SERVICE_STREAM, Faults
from stoker.envs.cluster.fill import (
    curves,
    fill_functions,
    fill_nodes,
    fill_row,
    fill_rules,
    reset_functions,
)
from stoker.envs.cluster.noise import FACTORS
from stoker.envs.cluster.row import ROW
from stoker.envs.cluster.rules.params import DEFAULTS
from stoker.envs.cluster.size import Size
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster.tables import (
    CF,
    EFFECT,
    EVENT,
    FAULT,
    FG,
    FN,
    GF,
    GPU,
    HYBRID,
    IN_FLIGHT,
    INST,
    KEPT,
    LAYER,
    LINE,
    LINK,
    NF,
    NODE,
    NONE,
    ORDER,
    REQ,
    SCRATCH,
    SLOWED,
    STORE,
    TARGET,
    UP,
)
from stoker.envs.workload.workload import Workload

if TYPE_CHECKING:
    from stoker.envs.cluster.llm_state import Lanes

Records = NDArray[Any]


def new_instances(rows: int, slots: int, first: int = 0) -> Records:
    """Free instance slots, chained. Shape: (B, I)"""
    table = np.zeros((rows, slots), INST)
    table["next"] = np.arange(first + 1, first + slots + 1)
    table["next"][:, -1] = NONE
    table["created"] = NONE
    return table


def on_lines(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Records:
    """A table of zeros that begins at a line of the cache."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + LINE, np.uint8)
    first = -raw.ctypes.data % LINE
    return raw[first : first + size].view(dtype).reshape(shape)


NOTHING = Workload(np.zeros(0), np.zeros(0, np.int32), (), 1.0)
"""What a row serves before its first `load`."""


STRIDED = (
    "fn", "node", "gpu", "link", "nf", "gf", "fg", "cf", "order", "inst", "heap", "effect",
    "hybrid", "scratch", "store", "kept", "target", "layer", "slowed",
)  # fmt: skip
"""Tables that have a part for every row."""


class State:
    """All tables of B rows of a size.

    `load` gives a row its cluster and workload (again); `point` must run after a table has moved.
    """

    def __init__(self, rows: int, size: Size, rules: Rules, threads: int = 1) -> None:
        b, f, m, g, c = rows, size.functions, size.nodes, size.gpus, size.kinds
        self.size = size
        self.cuts = np.linspace(0, b, threads + 1).astype(np.int64)
        """Thread k runs rows cuts[k] .. cuts[k + 1] - 1."""
        self.scratch = np.zeros(b, SCRATCH)
        self.rows = np.zeros(b, ROW)
        self.fn = on_lines((b, f), FN)
        self.gpu = np.zeros((b, g), GPU)
        self.node = np.zeros((b, m), NODE)
        self.link = np.zeros((b, 3 * m + g), LINK)
        self.nf = np.zeros((b, m * f), NF)
        self.store = np.zeros((b, 2 * m), STORE)
        self.kept = np.zeros((b, 2 * m * f), KEPT)
        self.cf = np.zeros((b, c * f), CF)
        self.fg = np.zeros((b, g * size.families), FG)
        self.layer = np.zeros((b, m * (size.images + 1) if size.images else 0), LAYER)
        self.gf = np.zeros((b, g * f), GF)
        self.order = np.zeros((b, g * f), ORDER)
        self.inst = new_instances(b, max(64, 2 * f))
        self.heap = np.zeros((b, max(1024, 8 * f)), EVENT)
        self.effect = np.zeros((b, 0), EFFECT)
        self.target = np.zeros((b, 1), TARGET)
        self.slowed = np.zeros((b, 0), SLOWED)
        self.param = np.array([rules.params.get(k, v) for k, v in DEFAULTS.items()])
        self.hybrid = np.zeros((b, f if rules.plan == "hybrid_histogram" else 0), HYBRID)
        self.rules = rules
        self.lanes: Lanes | None = None
        if size.llms:
            from stoker.envs.cluster.llm_state import Lanes  # on demand: few have LLM functions

            self.lanes = Lanes(b, size.llms, size.llm_batch)
        self.req: list[Records] = [np.zeros(0, REQ)] * b
        self.workloads = [NOTHING] * b
        self.cold_service: list[NDArray[np.float64] | None] = [None] * b
        self.live: dict[int, tuple[NDArray[np.float64], NDArray[np.int32]]] = {}
        self.curve: list[NDArray[np.float64] | None] = [None] * b
        self.theta: list[NDArray[np.float64] | None] = [None] * b
        self.faults: list[Faults | None] = [None] * b
        self.fault: list[Records] = [np.zeros(0, FAULT)] * b
        self._inputs: list[list[NDArray[Any]]] = [[] for _ in range(b)]

    def load(
        self,
        k: int,
        cluster: Cluster,
        workload: Workload,
        faults: Faults | None = None,
        **options: float,
    ) -> None:
        """Start row k afresh on a cluster and a workload; `options` are fields of the row."""
        self.size.check(cluster)
        for table in (
            self.rows, self.fn, self.node, self.gpu, self.link, self.nf, self.gf, self.fg, self.cf,
            self.hybrid, self.store, self.kept, self.target,
        ):  # fmt: skip
            table[k] = np.zeros((), table.dtype)
        row = self.rows[k]
        self.inst[k] = new_instances(1, self.inst.shape[1])[0]
        reset_functions(self.fn[k])
        self.gf[k]["pos"] = self.kept[k]["pos"] = NONE
        self.layer[k]["head"] = self.layer[k]["tail"] = NONE
        for name in ("wait_head", "wait_tail", "pending", "slowed_free"):
            row[name] = NONE
        row["free_n"] = self.inst.shape[1]
        fill_functions(self.fn[k], cluster)
        fill_nodes(self, k, cluster)
        fill_row(row, cluster, self.gpu[k], self.node[k])
        curve = self.curve[k] = curves(cluster)
        row["curve_n"] = 0 if curve is None else curve.shape[1]
        row["horizon"] = workload.horizon_s
        if self.slowed.shape[1] == 0 and any(gpu.slows for gpu in cluster.gpus):
            self.slowed = np.zeros(self.heap.shape, SLOWED)
        fill_rules(self.rows[k : k + 1], self.rules)
        for name, value in options.items():
            row[name] = value
        self.workloads[k] = workload
        self.req[k] = np.zeros(len(workload), REQ)
        self.req[k]["tier"] = IN_FLIGHT
        self.req[k]["start"] = self.req[k]["finish"] = np.nan
        self._expect(k, cluster, faults)
        if self.lanes is not None:
            self.lanes.load(k, row, cluster, workload)
        self._point_row(k)

    def _expect(self, k: int, cluster: Cluster, faults: Faults | None) -> None:
        """Take over what is to go wrong in row k, and set the timer of the first fault."""
        self.faults[k], self.fault[k] = faults, np.zeros(0, FAULT)
        if faults is None:
            return
        faults.check(cluster)
        row, self.fault[k] = self.rows[k], faults.schedule(cluster)
        row["faults"], row["retry"] = len(self.fault[k]), faults.retry
        row["placing"] = len(faults.losses) > 0
        if len(self.fault[k]):
            first = (self.fault[k][0]["t"], (FAULT_EVENT << KIND_BITS) | 1, 0, 0)
            self.heap[k, 0], row["heap_n"], row["seq"] = first, 1, 1

    def node_ranks(self) -> NDArray[np.int64]:
        """Place of each node in its class, in the order in which they are wanted. Shape: (B, M)

        By number; where nodes can be lost those that are to be had come first, and of them those
        that are wanted already, so that one that is repaired does not displace its replacement.
        """
        node, rows = self.node, self.rows
        ranks: NDArray[np.int64] = node["rank"]
        if not rows["faults"].any():
            return ranks
        number = np.arange(node.shape[1])
        there = number < rows["nodes"][:, None]
        key = 2 * ((node["lost"] > 0) | (node["noticed"] > 0)) + (node["wanted"] == 0)
        key = key * node.shape[1] + number
        same = (node["kind"][:, :, None] == node["kind"][:, None, :]) & there[:, None, :]
        by_key = (same & (key[:, None, :] < key[:, :, None])).sum(axis=2)
        return np.where(rows["faults"][:, None] > 0, by_key, ranks)

    def nodes_by_class(self, up: bool) -> NDArray[np.int32]:
        """Count the nodes of each class, all or those that are up. Shape: (B, C)"""
        there = np.arange(self.node.shape[1]) < self.rows["nodes"][:, None]
        if up:
            there &= self.node["state"] == UP
        one = self.node["kind"][:, :, None] == np.arange(self.size.kinds)
        count: NDArray[np.int32] = (one & there[:, :, None]).sum(axis=1, dtype=np.int32)
        return count

    def point(self) -> None:
        """Write the addresses and sizes of all tables into the rows."""
        for k in range(len(self.rows)):
            self._point_row(k)

    def _point_row(self, k: int) -> None:
        row, workload = self.rows[k], self.workloads[k]
        for name in STRIDED:
            table = getattr(self, name)
            row[name] = table.ctypes.data + k * table.strides[0]
        row["heap_cap"], row["insts"] = self.heap.shape[1], self.inst.shape[1]
        row["effect_cap"] = self.effect.shape[1]
        row["param"] = self.param.ctypes.data
        self._inputs[k] = []
        row["req"], row["reqs"] = self.req[k].ctypes.data, len(workload)
        arrival, function = self.live.get(k, (workload.arrival_s, workload.function))
        row["arrival"] = self._keep(k, arrival, np.float64)
        row["function"] = self._keep(k, function, np.int32)
        row["service"] = self._keep(k, workload.service_s, np.float64)
        row["cold_service"] = self._keep(k, self.cold_service[k], np.float64)
        row["curve"] = self._keep(k, self.curve[k], np.float64)
        row["theta"] = self._keep(k, self.theta[k], np.float64)
        if self.lanes is not None:
            self.lanes.point(k, row)
        faults = self.faults[k]
        row["fault"] = self.fault[k].ctypes.data
        if faults is not None:
            service = faults.factors(SERVICE_STREAM, len(workload))
            row["service_noise"] = self._keep(k, service, np.float64)
            row["load_noise"] = self._keep(k, faults.factors(LOAD_STREAM, FACTORS), np.float64)

    def _keep(self, k: int, column: NDArray[Any] | None, dtype: type) -> int:
        """Hold a contiguous input array of row k and return its address (0 = none)."""
        if column is None:
            return 0
        array: NDArray[Any] = np.ascontiguousarray(column, dtype)
        self._inputs[k].append(array)
        return int(array.ctypes.data)

    def copy_row(self, source: int, target: int) -> None:
        """Put a row into the state of another one, which serves the same problem.

        Raises:
            ValueError: it does not, or it has LLM functions.
        """
        given, own = self.workloads[source], self.workloads[target]
        alike = np.array_equal(given.arrival_s, own.arrival_s)
        if not alike or not np.array_equal(given.function, own.function) or self.lanes is not None:
            raise ValueError(f"row {target} does not serve the workload of row {source}")
        for name in (*STRIDED, "rows"):
            table = getattr(self, name)
            table[target] = table[source]
        self.req[target][:] = self.req[source]
        self._point_row(target)

    def grow_instances(self) -> None:
        """Double the instance slots of every row."""
        b, old = self.inst.shape
        extra = new_instances(b, old, first=old)
        for k in range(b):
            extra[k, -1]["next"] = self.rows[k]["free_head"] if self.rows[k]["free_n"] else NONE
        self.inst = np.concatenate([self.inst, extra], axis=1)
        self.rows["free_head"] = old
        self.rows["free_n"] += old
        if self.lanes is not None:
            self.lanes.grow(self.rows)
        self.point()

    def grow_heap(self, places: int) -> None:
        """Give every row at least `places` heap places, and as many for batches that are slowed."""
        b, old = self.heap.shape
        more = np.zeros((b, max(places, 2 * old) - old), EVENT)
        self.heap = np.concatenate([self.heap, more], axis=1)
        if self.slowed.shape[1] > 0:
            self.slowed = np.concatenate([self.slowed, np.zeros(more.shape, SLOWED)], axis=1)
        self.point()
