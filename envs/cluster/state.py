"""Build the engine's tables from specs and workloads, and let them grow.

Shapes: B rows, F functions (of the largest row), I instance slots, G GPUs, N requests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.rules.params import DEFAULTS
from stoker.envs.cluster.spec import CHOICES, GIB, Cluster, Rules
from stoker.envs.cluster.tables import (
    EFFECT,
    EVENT,
    FN,
    GF,
    GPU,
    HYBRID,
    IN_FLIGHT,
    INST,
    LINK,
    NONE,
    ORDER,
    REQ,
    ROW,
    SCRATCH,
)
from stoker.envs.workload.workload import Workload

Records = NDArray[Any]
UNBOUNDED = 2**62
"""Bytes of a memory without limit."""
MS = 1000.0
LEAST_MB = 1e-9
"""Size that a function of no size counts with in priorities."""


def to_bytes(gib: float) -> int:
    """GiB as whole bytes; infinity as an unbounded number of them."""
    return UNBOUNDED if np.isinf(gib) else round(gib * GIB)


def fill_functions(table: Records, cluster: Cluster) -> None:
    """Write the spec of every function and its initial standing orders. Shape: (F,)"""
    table = table[: len(cluster.functions)]
    specs = cluster.functions

    def column(get: Any) -> NDArray[np.float64]:
        return np.array([get(f) for f in specs], np.float64)

    table["bytes"] = [to_bytes(f.device_gib) for f in specs]
    table["weights"] = [to_bytes(f.weights_gib) for f in specs]
    table["gib"] = column(lambda f: f.device_gib)
    table["weights_gib"] = column(lambda f: f.weights_gib)
    for name in ("runtime_s", "warmup_s", "alpha_s", "beta_s", "slo_s"):
        table[name] = column(lambda f, name=name: getattr(f, name))
    table["load_rate"] = column(lambda f: f.load_gib_s) * GIB
    table["load_disk_s"] = [cluster.load_s(k, "disk") for k in range(len(specs))]
    table["load_host_s"] = [cluster.load_s(k, "host") for k in range(len(specs))]
    table["cost"] = np.round(table["load_disk_s"] * MS, 9)
    table["cost_size"] = np.maximum(table["gib"] * 1024.0, LEAST_MB)
    table["batch_limit"] = table["max_batch"] = [f.max_batch for f in specs]
    table["concurrency"] = [f.concurrency for f in specs]


def reset_functions(table: Records) -> None:
    """Write the state that every function starts with. Shape: (B, F)"""
    timers = ("batch_timer", "prewarm_timer", "host_timer", "order_timer")
    for name in ("keep_alive_s", "prewarm_after_s", *timers):
        table[name] = np.inf
    table["min_batch"] = 1
    table["max_instances"] = 2**31 - 1
    links = ("open_head", "open_tail", "q_head", "q_tail", "next_waiting", "peers")
    for name in (*links, "decision", "left_out"):
        table[name] = NONE
    table["last_arrival"] = table["last_idle"] = -np.inf
    table["slow_unit"] = table["fast_unit"] = table["multiplier"] = 1.0
    table["mix"][..., 0] = 1.0


def new_instances(rows: int, slots: int, first: int = 0) -> Records:
    """Free instance slots, chained. Shape: (B, I)"""
    table = np.zeros((rows, slots), INST)
    table["next"] = np.arange(first + 1, first + slots + 1)
    table["next"][:, -1] = NONE
    table["created"] = NONE
    return table


def fill_node(row: Any, gpus: Records, links: Records, cluster: Cluster) -> None:
    """Write GPUs, links, host tier and prices of one row. Shapes: (G,), (1 + G,)"""
    node = cluster.node
    for k, gpu in enumerate(node.gpus):
        gpus[k]["cap"] = to_bytes(gpu.memory_gib)
        gpus[k]["exclusive"] = gpu.sharing == "exclusive"
    row["cap"] = min(sum(gpus["cap"].tolist()), UNBOUNDED)
    gpus["run_head"] = gpus["run_tail"] = NONE
    for k, link in enumerate((node.disk,) + (node.pcie,) * len(node.gpus)):
        links[k]["rate"] = link.gib_s * GIB
        links[k]["fifo"] = link.discipline == "fifo"
        links[k]["slots"] = link.slots
    for name in ("head", "tail", "q_head", "q_tail"):
        links[name] = NONE
    row["host_cap"] = to_bytes(node.host_gib)
    wait = cluster.objective.wait_usd_s
    row["rent"] = cluster.device_usd_gib_s / wait if wait else 0.0
    row["host_rent"] = cluster.host_usd_gib_s / wait if wait else 0.0
    row["load_price"] = cluster.objective.load_usd_s / wait if wait else 0.0
    row["drop_price"] = cluster.objective.drop_usd / wait if wait else 0.0
    row["first_bin"] = cluster.first_bin_s


def fill_rules(rows: Records, rules: Rules) -> None:
    """Write the codes of the rules into every row. Shape: (B,)"""
    for name in ("scale_out", "placement", "eviction", "plan"):
        rows[name] = CHOICES[f"rules.{name}"].index(getattr(rules, name))
    rows["order_rule"] = CHOICES["rules.order"].index(rules.order)
    rows["clone"] = CHOICES["rules.clone_choice"].index(rules.clone_choice)
    rows["drop_overload"] = rules.overload == "drop"
    rows["need_full"] = rules.eviction_need == "full"
    rows["futile"] = rules.futile_eviction == "allowed"
    rows["ttl_start"] = rules.ttl_anchor == "start"
    rows["ttl_lazy"] = rules.ttl_expiry == "lazy"
    rows["freq_instance"] = rules.frequency == "instance"
    rows["clock_assign"] = rules.clock == "assign"
    rows["quantum"] = round(1.0 / rules.time_quantum_s) if rules.time_quantum_s > 0.0 else 0.0


NOTHING = Workload(np.zeros(0), np.zeros(0, np.int32), (), 1.0)
"""What a row serves before its first `load`."""


class State:
    """All tables of B rows of at most F functions and G GPUs.

    `load` gives a row its cluster and workload (again); `point` must run after a table has moved.
    """

    def __init__(
        self, rows: int, functions: int, gpus: int, rules: Rules, threads: int = 1
    ) -> None:
        b, f, g = rows, functions, gpus
        self.cuts = np.linspace(0, b, threads + 1).astype(np.int64)
        """Thread k runs rows cuts[k] .. cuts[k + 1] - 1, which share a scratch."""
        self.scratch = np.zeros(threads, SCRATCH)
        self.rows = np.zeros(b, ROW)
        self.fn = np.zeros((b, f), FN)
        self.gpu = np.zeros((b, g), GPU)
        self.link = np.zeros((b, 1 + g), LINK)
        self.gf = np.zeros((b, g * f), GF)
        self.order = np.zeros((b, g * f), ORDER)
        self.inst = new_instances(b, max(64, 2 * f))
        self.heap = np.zeros((b, max(1024, 8 * f)), EVENT)
        self.effect = np.zeros((b, 0), EFFECT)
        self.param = np.array([rules.params.get(k, v) for k, v in DEFAULTS.items()])
        self.hybrid = np.zeros((b, f if rules.plan == "hybrid_histogram" else 0), HYBRID)
        self.rules = rules
        self.req: list[Records] = [np.zeros(0, REQ)] * b
        self.workloads = [NOTHING] * b
        self.cold_service: list[NDArray[np.float64] | None] = [None] * b
        self.live: dict[int, tuple[NDArray[np.float64], NDArray[np.int32]]] = {}
        self.theta: list[NDArray[np.float64] | None] = [None] * b
        self._inputs: list[list[NDArray[Any]]] = [[] for _ in range(b)]

    def load(self, k: int, cluster: Cluster, workload: Workload, **options: float) -> None:
        """Start row k afresh on a cluster and a workload; `options` are fields of the row."""
        for table in (self.rows, self.fn, self.gpu, self.link, self.gf, self.hybrid):
            table[k] = np.zeros((), table.dtype)
        row = self.rows[k]
        self.inst[k] = new_instances(1, self.inst.shape[1])[0]
        reset_functions(self.fn[k])
        self.gf[k]["pos"] = NONE
        for name in ("wait_head", "wait_tail", "pending"):
            row[name] = NONE
        row["free_n"] = self.inst.shape[1]
        fill_functions(self.fn[k], cluster)
        fill_node(row, self.gpu[k], self.link[k], cluster)
        self.gpu[k]["last"] = NONE
        row["fns"], row["gpus"] = len(cluster.functions), len(cluster.node.gpus)
        row["horizon"] = workload.horizon_s
        fill_rules(self.rows[k : k + 1], self.rules)
        for name, value in options.items():
            row[name] = value
        self.workloads[k] = workload
        self.req[k] = np.zeros(len(workload), REQ)
        self.req[k]["tier"] = IN_FLIGHT
        self.req[k]["start"] = self.req[k]["finish"] = np.nan
        self._point_row(k)

    def point(self) -> None:
        """Write the addresses and sizes of all tables into the rows."""
        for k in range(len(self.rows)):
            self._point_row(k)

    def _point_row(self, k: int) -> None:
        row, workload = self.rows[k], self.workloads[k]
        for name in ("fn", "gpu", "link", "gf", "order", "inst", "heap", "effect", "hybrid"):
            table = getattr(self, name)
            row[name] = table.ctypes.data + k * table.strides[0]
        row["heap_cap"], row["insts"] = self.heap.shape[1], self.inst.shape[1]
        row["effect_cap"] = self.effect.shape[1]
        row["param"] = self.param.ctypes.data
        thread = int(np.searchsorted(self.cuts, k, side="right")) - 1
        row["scratch"] = self.scratch.ctypes.data + thread * SCRATCH.itemsize
        self._inputs[k] = []
        row["req"], row["reqs"] = self.req[k].ctypes.data, len(workload)
        arrival, function = self.live.get(k, (workload.arrival_s, workload.function))
        row["arrival"] = self._keep(k, arrival, np.float64)
        row["function"] = self._keep(k, function, np.int32)
        row["service"] = self._keep(k, workload.service_s, np.float64)
        row["cold_service"] = self._keep(k, self.cold_service[k], np.float64)
        row["theta"] = self._keep(k, self.theta[k], np.float64)

    def _keep(self, k: int, column: NDArray[Any] | None, dtype: type) -> int:
        """Hold a contiguous input array of row k and return its address (0 = none)."""
        if column is None:
            return 0
        array: NDArray[Any] = np.ascontiguousarray(column, dtype)
        self._inputs[k].append(array)
        return int(array.ctypes.data)

    def grow_instances(self) -> None:
        """Double the instance slots of every row."""
        b, old = self.inst.shape
        extra = new_instances(b, old, first=old)
        for k in range(b):
            extra[k, -1]["next"] = self.rows[k]["free_head"] if self.rows[k]["free_n"] else NONE
        self.inst = np.concatenate([self.inst, extra], axis=1)
        self.rows["free_head"] = old
        self.rows["free_n"] += old
        self.point()

    def grow_heap(self, places: int) -> None:
        """Give every row at least `places` heap places."""
        b, old = self.heap.shape
        more = np.zeros((b, max(places, 2 * old) - old), EVENT)
        self.heap = np.concatenate([self.heap, more], axis=1)
        self.point()
