"""What happened to each request, and the bill.

Shapes: N requests, G GPUs.  Units: seconds, GiB-seconds, dollars.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.spec import GIB, Cluster
from stoker.envs.cluster.state import State
from stoker.envs.cluster.tables import COLD, DROPPED, FAILED, HOST, IN_FLIGHT, OFF, PEER, REMOTE

PERCENTILES = (50, 95, 99)
SOURCES = ("disk", "host", "peer", "remote")
BILLED = (
    "rent_usd", "load_usd", "wait_usd", "drop_usd", "device_gib_s", "host_gib_s",
    "gpu_busy_s", "gpu_loading_s", "gpu_idle_s", "gpu_off_s",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Per-request result."""

    arrival_s: NDArray[np.float64]
    """Shape: (N,)"""
    function: NDArray[np.int32]
    """Shape: (N,)"""
    tier: NDArray[np.uint8]
    """0 warm, 1 cold (from disk), 2 dropped, 3 from the host copy, 4 failed, 5 from a
    peer GPU, 6 over the network, 255 in flight.
    Shape: (N,)"""
    start_s: NDArray[np.float64]
    """NaN where service has not begun. Shape: (N,)"""
    finish_s: NDArray[np.float64]
    """NaN where it has not ended. Shape: (N,)"""
    first_token_s: NDArray[np.float64] | None = None
    """When an LLM put out its first token, NaN where none did; None without LLMs. Shape: (N,)"""
    max_tbt_s: NDArray[np.float64] | None = None
    """Longest time between two tokens, NaN where there are not two; likewise. Shape: (N,)"""
    late_tokens: NDArray[np.int32] | None = None
    """Tokens that came later than `Llm.tbt_s` after the one before; likewise. Shape: (N,)"""

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """Arrival to completion; NaN for what was not served. Shape: (N,)"""
        served = (self.tier != DROPPED) & (self.tier != FAILED)
        latency: NDArray[np.float64] = np.where(served, self.finish_s - self.arrival_s, np.nan)
        return latency


@dataclass(frozen=True)
class Bill:
    """What the time from 0 to the horizon cost."""

    rent_usd: float
    host_usd: float
    load_usd: float
    wait_usd: float
    drop_usd: float
    device_gib_s: float
    host_gib_s: float
    gpu_busy_s: float
    gpu_loading_s: float
    gpu_idle_s: float
    gpu_off_s: float
    loaded_gib: float
    """Bytes moved over the disk links."""
    network_gib: float
    """Bytes moved over the links to the store."""
    energy_j: float
    """Of the GPUs: busy at their busy power, loading and idle at their idle power, off at none."""
    node_s: float
    """Seconds that nodes were up, those in which they came up or drained included."""

    @property
    def total_usd(self) -> float:
        """The operator's objective."""
        return self.rent_usd + self.host_usd + self.load_usd + self.wait_usd + self.drop_usd


@dataclass(frozen=True)
class Result:
    """Outcome, bill and counters of one row."""

    outcome: Outcome
    bill: Bill
    counters: dict[str, int]
    horizon_s: float
    clock: float
    wait_s: float
    startup_wait_s: float
    slo_attainment: float

    def summary(self) -> dict[str, float]:
        """Every figure that a table shows, by name."""
        bill, tier, latency_s = self.bill, self.outcome.tier, self.outcome.latency_s
        latency_s = latency_s[np.isfinite(latency_s)]
        cold = sum(_count(tier, source) for source in (COLD, HOST, PEER, REMOTE))
        served = len(tier) - _count(tier, DROPPED) - _count(tier, FAILED)
        figures = {
            "requests": float(len(tier)),
            "drops": float(self.counters["drops"]),
            "failed": float(self.counters["failed"]),
            "evictions": float(self.counters["evictions"]),
            "loads": float(sum(self.counters[f"loads_{s}"] for s in SOURCES)),
            "prewarms": float(self.counters["prewarms"]),
            "cold_ratio": cold / max(served, 1),
            "cold_s": self.startup_wait_s,
            "wait_s": self.wait_s,
            "slo_attainment": self.slo_attainment,
            "total_usd": bill.total_usd,
            "host_usd": bill.host_usd,
        }
        for p, value in zip(PERCENTILES, percentiles(latency_s, PERCENTILES), strict=True):
            figures[f"p{p}_s"] = value
        for name in BILLED:
            figures[name] = float(getattr(bill, name))
        return figures


COUNTERS = (
    "evictions", "expiries", *(f"loads_{source}" for source in SOURCES), "prewarms", "refused",
    "drops", "served", "failed", "events", "clipped", "layers_runtime", "layers_sandbox", "lent",
    "retries",
)  # fmt: skip


def collect(state: State, cluster: Cluster, k: int) -> Result:
    """Read outcome and bill of row k out of the tables."""
    row, gpu, node, link = state.rows[k], state.gpu[k], state.node[k], state.link[k]
    arrival_s, req = state.workloads[k].arrival_s, state.req[k]
    tier, start_s = req["tier"].copy(), req["start"].copy()
    goal, now = cluster.objective, float(row["now"])
    specs, nodes = cluster.gpus, cluster.all_nodes
    gpu, node = gpu[: len(specs)], node[: len(nodes)]
    link = link[: 3 * len(nodes) + len(specs)]
    held_gib_s, host_gib_s = gpu["byte_s"] / GIB, node["host_byte_s"] / GIB
    on_s = now - gpu["off_s"]
    up_s = node["up_s"] + np.where(node["state"] != OFF, now - node["up_t"], 0.0)
    if goal.billing == "memory":
        rents = [float(s) * g.usd_gib_s for s, g in zip(held_gib_s, specs, strict=True)]
    else:
        paid_s = on_s if goal.billing == "gpu" else up_s[gpu["node"]]
        rents = [float(s) * g.price_usd_h / 3600.0 for s, g in zip(paid_s, specs, strict=True)]
    hosts = zip(host_gib_s, nodes, strict=True)
    power = zip(gpu["busy_s"], gpu["loading_s"] + gpu["idle_s"], specs, strict=True)
    scored = slice(arrival_s.searchsorted(row["warmup"]), arrival_s.searchsorted(now, "right"))
    queued = (tier[scored] == IN_FLIGHT) & ~np.isfinite(start_s[scored])
    waiting_s = float((now - arrival_s[scored][queued]).sum())
    bill = Bill(
        rent_usd=math.fsum(rents),
        host_usd=math.fsum(float(s) * n.host_price_usd_gib_h / 3600.0 for s, n in hosts),
        load_usd=float(row["load_s"]) * goal.load_usd_s,
        wait_usd=(float(row["wait_s"]) + waiting_s) * goal.wait_usd_s,
        drop_usd=int(row["drops"] + row["failed"]) * goal.drop_usd,
        device_gib_s=float(held_gib_s.sum()),
        host_gib_s=float(host_gib_s.sum()),
        gpu_busy_s=float(gpu["busy_s"].sum()),
        gpu_loading_s=float(gpu["loading_s"].sum()),
        gpu_idle_s=float(gpu["idle_s"].sum()),
        gpu_off_s=float(gpu["off_s"].sum()),
        loaded_gib=float(link["bytes"][: len(nodes)].sum()) / GIB,
        network_gib=float(link["bytes"][-len(nodes) :].sum()) / GIB,
        energy_j=math.fsum(float(b) * g.busy_w + float(i) * g.idle_w for b, i, g in power),
        node_s=float(up_s.sum()),
    )
    refused = _count(tier[scored], DROPPED) + _count(tier[scored], FAILED)
    late = int(row["late"]) + refused + int(np.count_nonzero(queued))
    tokens = () if state.lanes is None else state.lanes.token_times(k)
    function, finish_s = state.workloads[k].function, req["finish"].copy()
    outcome = Outcome(arrival_s, function, tier, start_s, finish_s, *tokens)
    return Result(
        outcome=outcome,
        bill=bill,
        counters={name: int(row[name]) for name in COUNTERS},
        horizon_s=now,
        clock=float(row["clock"]),
        wait_s=float(row["wait_s"]) + waiting_s,
        startup_wait_s=float(row["startup_wait_s"]),
        slo_attainment=1.0 - late / max(len(tier[scored]), 1),
    )


def percentiles(values: NDArray[np.float64], percents: Sequence[int]) -> list[float]:
    """Percentiles, linear between neighbours; 0 where there are no values. Shape: (N,).

    Those of `np.percentile`, by one sort: a summary ends every episode, and the general function
    costs more than all the rest of it.
    """
    ordered = np.sort(values)
    last = len(ordered) - 1
    if last < 0:
        return [0.0] * len(percents)
    found = []
    for percent in percents:
        below, part = divmod(last * (percent / 100), 1.0)
        low, high = float(ordered[int(below)]), float(ordered[min(int(below) + 1, last)])
        step = high - low
        found.append(low + step * part if part < 0.5 else high - step * (1.0 - part))
    return found


def _count(tier: NDArray[np.uint8], which: int) -> int:
    return int(np.count_nonzero(tier == which))
