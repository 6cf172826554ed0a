"""Write specs into the engine's tables.

Shapes: F functions, M nodes, G GPUs, L links.  Units: bytes, seconds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.columns import Columns
from stoker.envs.cluster.spec import CHOICES, GIB, Cluster, Gpu, Link, Node, Rules
from stoker.envs.cluster.tables import BY_LOADS, EXCESS, LINEAR, NONE, PROCESSOR, THERE, WHOLE

if TYPE_CHECKING:
    from stoker.envs.cluster.state import State

Records = NDArray[Any]


UNBOUNDED = 2**62
"""Bytes of a memory without limit."""
SLOWS = {"none": 0, "linear": LINEAR, "excess": EXCESS}
MS = 1000.0
LEAST_MB = 1e-9
"""Size that a function of no size counts with in priorities."""


def to_bytes(gib: float) -> int:
    """GiB as whole bytes; infinity as an unbounded number of them."""
    return int(whole_bytes(np.float64(gib)))


def whole_bytes(gib: Any) -> NDArray[np.int64]:
    """GiB as whole bytes; infinity as an unbounded number of them. Any shape."""
    bounded = np.where(np.isinf(gib), 0.0, gib)
    return np.where(np.isinf(gib), UNBOUNDED, np.rint(bounded * GIB).astype(np.int64))


def fill_functions(table: Records, cluster: Cluster) -> None:
    """Write the spec of every function and its initial standing orders. Shape: (F,)"""
    table = table[: len(cluster.functions)]
    of = cluster.columns
    table["bytes"] = whole_bytes(of.device_gib / of.gpus)
    table["weights"] = whole_bytes(of.weights_gib)
    table["shared"] = whole_bytes(of.shared_gib)
    table["disk_bytes"] = whole_bytes(of.disk_gib)
    table["gib"] = of.device_gib
    for name in (
        "weights_gib", "runtime_s", "fork_s", "warmup_s", "overlap_s", "slo_s", "compression",
        "lent_s", "lend_after_s", "gpus", "concurrency",
    ):  # fmt: skip
        table[name] = getattr(of, name)
    table["batch_limit"] = table["max_batch"] = of.max_batch
    table["process_s"] = of.sandbox_s + of.runtime_s
    table["load_rate"] = of.load_gib_s / of.compression * GIB
    for source in ("disk", "host", "remote"):
        table[f"load_{source}_s"] = cluster.loads_s(source)
    table["hostable"] = (of.weights_gib > 0.0) & (of.weights_gib <= cluster.host_gib)
    table["cost"] = np.round(table["load_disk_s"] * MS, 9)
    table["cost_size"] = np.maximum(of.device_gib * 1024.0, LEAST_MB)
    table["part"] = np.maximum((of.gpu_fraction * WHOLE).astype(np.int64), 1)
    for name in ("compute_util", "memory_util"):  # not stated: no GPU asks for it
        table[name] = np.nan_to_num(getattr(of, name))
    families = {family: k for k, family in enumerate(cluster.families)}
    table["family"] = [families[f.family] if f.shared_gib else NONE for f in cluster.functions]
    fill_images(table, cluster)
    if llms := [k for k, f in enumerate(cluster.functions) if f.llm]:
        table["llm"][llms] = np.arange(len(llms))
        table["token_budget"][llms] = [f.llm.token_budget for f in cluster.functions if f.llm]
        table["concurrency"][llms] = [f.llm.requests for f in cluster.functions if f.llm]


def fill_images(table: Records, cluster: Cluster) -> None:
    """Write sizes of parked layers, and who shares a runtime: a ring through `kin`. Shape: (F,)"""
    table["image"] = table["kin"] = NONE
    images = {image: k for k, image in enumerate(cluster.images)}
    if not images:
        return
    table["process_bytes"] = whole_bytes(cluster.columns.runtime_gib)
    table["sandbox_bytes"] = whole_bytes(cluster.columns.sandbox_gib)
    rings: dict[int, list[int]] = {}
    for k, f in enumerate(cluster.functions):
        rings.setdefault(images[f.image], []).append(k)
    for image, ring in rings.items():
        for k, following in zip(ring, ring[1:] + ring[:1], strict=True):
            table[k]["image"], table[k]["kin"] = image, following


def reset_functions(table: Records) -> None:
    """Write the state that every function starts with. Shape: (B, F)"""
    timers = ("batch_timer", "prewarm_timer", "order_timer")
    for name in ("keep_alive_s", "prewarm_after_s", *timers):
        table[name] = np.inf
    table["min_batch"] = 1
    table["max_instances"] = 2**31 - 1
    links = ("open_head", "open_tail", "q_head", "q_tail", "next_waiting", "peers")
    for name in (*links, "decision", "left_out", "gpu_class", "parked", "llm"):
        table[name] = NONE
    table["last_arrival"] = table["last_idle"] = -np.inf
    table["slow_unit"] = table["fast_unit"] = table["multiplier"] = 1.0
    table["mix"][..., 0] = 1.0


def fill_nodes(state: State, k: int, cluster: Cluster) -> None:
    """Write nodes, GPUs, links and what functions are on them into row k."""
    specs, nodes, gpus = cluster.functions, cluster.all_nodes, cluster.gpus
    m, f = len(nodes), len(specs)
    link, nf, cf = state.link[k], state.nf[k], state.cf[k]
    g = 0
    for n, node in enumerate(nodes):
        state.node[k, n]["host_cap"] = to_bytes(node.host_gib)
        state.node[k, n]["pipelined"] = node.loading == "pipelined"
        state.node[k, n]["demotion"] = node.demotion == "copy"
        state.node[k, n]["boot_s"], state.node[k, n]["wanted"] = node.boot_s, 1
        fill_link(link[n], node.disk)
        fill_link(link[m + len(gpus) + n], node.nvlink or Link())
        fill_link(link[2 * m + len(gpus) + n], node.network or Link())
        here = nf[n * f : (n + 1) * f]
        for source in ("disk", "host", "peer", "remote"):
            here[f"{source}_s"] = node.loads_s(cluster.columns, source)
        fill_disk(state.node[k, n], here, node, cluster.columns)
        for gpu in node.gpus:
            fill_gpu(state.gpu[k, g], gpu, cluster)
            state.gpu[k, g]["node"] = n
            fill_link(link[m + g], node.pcie)
            g += 1
    nf["timer"] = np.inf
    state.fn[k, :f]["disks"] = (nf[: m * f]["disk"] == THERE).reshape(m, f).sum(axis=0)
    kinds = cluster.kinds
    state.gpu[k, :g]["kind"] = [kinds.index(gpu.kind) for gpu in gpus]
    classes = [kinds.index(node.kind) for node in nodes]
    state.node[k, :m]["kind"] = classes
    state.node[k, :m]["rank"] = [classes[:n].count(c) for n, c in enumerate(classes)]
    for c, kind in enumerate(kinds):
        here = cf[c * f : (c + 1) * f]
        times = [function.service(kind) for function in specs]
        here["alpha_s"], here["beta_s"] = np.array(times).T


def curves(cluster: Cluster) -> NDArray[np.float64] | None:
    """Measured times of batches of 1, 2, ...; -1 = those of the line; None = nobody has any.

    Shape: (F, longest)
    """
    longest = max(len(f.batch_s) for f in cluster.functions)
    if longest == 0:
        return None
    table = np.full((len(cluster.functions), longest), -1.0)
    for row, function in zip(table, cluster.functions, strict=True):
        row[: len(function.batch_s)] = function.batch_s
    return table


def fill_disk(record: Any, here: Records, node: Node, of: Columns) -> None:
    """Write what lies on a node's disk at first: everything, or nothing where it is limited."""
    limited = np.isfinite(node.disk_gib)
    record["disk_cap"] = to_bytes(node.disk_gib) if limited else NONE
    here["disk"] = np.where((of.weights_gib == 0.0) | (not limited), THERE, 0)
    diskless = replace(node, disk_gib=0.0) if limited else node
    here["stream_s"] = diskless.loads_s(of, "remote")


def fill_gpu(record: Any, gpu: Gpu, cluster: Cluster) -> None:
    """Write one GPU; its rent is in seconds of waiting a byte-second."""
    wait = cluster.objective.wait_usd_s
    record["cap"] = to_bytes(gpu.memory_gib)
    record["exclusive"] = gpu.sharing == "exclusive"
    record["spatial"] = gpu.sharing == "spatial"
    record["slows"] = SLOWS[gpu.interference]
    if gpu.sharing == "processor":
        record["slows"] = PROCESSOR
    elif gpu.interference == "none" and gpu.beside:
        record["slows"] = BY_LOADS
    for name in ("batch_beside_load", "load_beside_batch"):
        record[name] = getattr(gpu, name)
    if gpu.coefficients:
        record["coefficients"] = gpu.coefficients
    record["byte_rent"] = gpu.usd_gib_s / wait / GIB if wait else 0.0
    for name in ("run_head", "run_tail", "last", "slowed_head", "slowed_tail", "due"):
        record[name] = NONE


def fill_link(record: Any, link: Link) -> None:
    """Write one link."""
    record["rate"] = link.gib_s * GIB
    record["fifo"] = link.discipline == "fifo"
    record["slots"] = link.slots
    for name in ("head", "tail", "q_head", "q_tail"):
        record[name] = NONE


def fill_row(row: Any, cluster: Cluster, gpus: Records, nodes: Records) -> None:
    """Write sizes, totals and prices of one row."""
    row["fns"], row["nodes"] = len(cluster.functions), len(cluster.all_nodes)
    row["gpus"], row["kinds"] = len(cluster.gpus), len(cluster.kinds)
    row["families"], row["images"] = len(cluster.families), len(cluster.images)
    row["spans"] = max(f.gpus for f in cluster.functions)
    row["cap"] = min(sum(gpus["cap"].tolist()), UNBOUNDED)
    row["host_cap"] = min(sum(nodes["host_cap"].tolist()), UNBOUNDED)
    wait = cluster.objective.wait_usd_s
    row["rent"] = cluster.device_usd_gib_s / wait if wait else 0.0
    row["host_rent"] = cluster.host_usd_gib_s / wait if wait else 0.0
    row["load_price"] = cluster.objective.load_usd_s / wait if wait else 0.0
    row["drop_price"] = cluster.objective.drop_usd / wait if wait else 0.0
    row["first_bin"] = cluster.first_bin_s


def fill_rules(rows: Records, rules: Rules) -> None:
    """Write the codes of the rules into every row. Shape: (B,)"""
    for name in ("scale_out", "placement", "eviction", "host_eviction", "plan"):
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
