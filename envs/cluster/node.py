"""Nodes: GPUs, links and host memory.  Units: seconds, GiB, GiB/s, watts, dollars an hour."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stoker.envs.cluster.choices import choose
from stoker.envs.cluster.errors import require
from stoker.envs.cluster.function import Function


@dataclass(frozen=True)
class Gpu:
    """One device."""

    memory_gib: float
    price_usd_h: float = 0.0
    kind: str = "gpu"
    """Its class: GPUs of one class are alike in service times."""
    sharing: str = "parallel"
    """parallel: instances do not slow each other; exclusive: one batch at a time on the device."""
    idle_w: float = 0.0
    """Power while something is resident or loads, and nothing runs."""
    busy_w: float = 0.0
    """Power while a batch runs."""

    def __post_init__(self) -> None:
        require(self.memory_gib > 0.0, "gpu.memory_gib", self.memory_gib, "> 0")
        for name in ("price_usd_h", "idle_w", "busy_w"):
            value = getattr(self, name)
            require(0.0 <= value < math.inf, f"gpu.{name}", value, "finite, >= 0")
        choose("gpu.sharing", self.sharing, "gpu.sharing")

    @property
    def usd_gib_s(self) -> float:
        """Price of its memory: the hourly price over its GiB."""
        return self.price_usd_h / self.memory_gib / 3600.0


@dataclass(frozen=True)
class Link:
    """A path that loads share: equally (fair), or first come first served, n at a time (fifo)."""

    gib_s: float = math.inf
    discipline: str = "fair"
    slots: int = 1
    """Loads served at once under fifo, each at the full rate."""

    def __post_init__(self) -> None:
        require(self.gib_s > 0.0, "link.gib_s", self.gib_s, "> 0")
        choose("link.discipline", self.discipline, "link.discipline")
        require(self.slots >= 1, "link.slots", self.slots, "an integer >= 1")


@dataclass(frozen=True)
class Node:
    """GPUs behind one host memory, one disk link and one host-to-device link (PCIe) a GPU.

    The disk link is whatever brings weights to the host: a local drive or the network to a store.
    """

    gpus: tuple[Gpu, ...]
    host_gib: float = 0.0
    """Pinned host memory for weights and parked layers; 0 = no host tier."""
    host_price_usd_gib_h: float = 0.0
    disk: Link = Link()
    pcie: Link = Link()
    loading: str = "sequential"
    """sequential: weights reach the host, then the device; pipelined: in chunks, so that the
    slowest link decides, not the sum (ServerlessLLM, OSDI 2024)."""
    nvlink: Link | None = None
    """Between its GPUs: weights that are ready on one may be copied to another (Torpor)."""

    def __post_init__(self) -> None:
        choose("node.loading", self.loading, "node.loading")
        require(len(self.gpus) >= 1, "node.gpus", len(self.gpus), "at least one GPU")
        require(self.host_gib >= 0.0, "node.host_gib", self.host_gib, ">= 0")
        price = self.host_price_usd_gib_h
        require(price >= 0.0, "node.host_price_usd_gib_h", price, ">= 0")

    def load_s(self, function: Function, source: str = "disk") -> float:
        """Start-up time of a function while nothing else loads, from `disk`, `host` or `peer`."""
        if source == "peer":
            gib_s = 0.0 if self.nvlink is None else self.nvlink.gib_s
            copy_s = function.weights_gib / gib_s if gib_s > 0.0 else math.inf
            return function.sandbox_s + function.runtime_s + function.warmup_s + copy_s
        pcie_s = function.weights_gib / self.pcie.gib_s
        disk_s = 0.0
        if source == "disk":
            gib_s = min(self.disk.gib_s * function.compression, function.load_gib_s)
            disk_s = function.weights_gib / gib_s
            if self.loading == "pipelined":
                disk_s = max(disk_s - pcie_s, 0.0)
        return function.sandbox_s + function.runtime_s + function.warmup_s + pcie_s + disk_s
