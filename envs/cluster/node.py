"""Nodes: GPUs, links and host memory.  Units: seconds, GiB, GiB/s, watts, dollars an hour."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.choices import choose
from stoker.envs.cluster.columns import Columns
from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.function import Function


@dataclass(frozen=True)
class Gpu:
    """One device."""

    memory_gib: float
    price_usd_h: float = 0.0
    kind: str = "gpu"
    """Its class: GPUs of one class are alike in service times."""
    sharing: str = "parallel"
    """parallel: instances do not slow each other; exclusive: one batch at a time on the device;
    processor: k batches at once run at 1/k of their speed each; spatial: an instance holds
    Function.gpu_fraction of it (gpulet, ATC 2022), and service times are those at that fraction."""
    idle_w: float = 0.0
    """Power while something is resident or loads, and nothing runs."""
    busy_w: float = 0.0
    """Power while a batch runs."""
    interference: str = "none"
    """Between batches on fractions: none, linear (gpulet) or excess (USHER); interference.py."""
    coefficients: tuple[float, ...] = ()
    """Of `linear`, fitted on the device: own compute_util, the others', own memory_util, the
    others', constant."""
    batch_beside_load: float = 1.0
    """So many times as long a batch takes while an instance is loaded onto the device."""
    load_beside_batch: float = 1.0
    """So many times as long weights take to the device while a batch runs on it."""

    def __post_init__(self) -> None:
        require(self.memory_gib > 0.0, "gpu.memory_gib", self.memory_gib, "> 0")
        for name in ("price_usd_h", "idle_w", "busy_w"):
            value = getattr(self, name)
            require(0.0 <= value < math.inf, f"gpu.{name}", value, "finite, >= 0")
        for name in ("batch_beside_load", "load_beside_batch"):
            value = getattr(self, name)
            require(1.0 <= value < math.inf, f"gpu.{name}", value, "finite, >= 1")
        choose("gpu.sharing", self.sharing, "gpu.sharing")
        choose("gpu.interference", self.interference, "gpu.interference")
        if self.interference != "none" and self.sharing != "spatial":
            raise SpecError("gpu.interference", self.interference, f"none ({self.sharing} sharing)")
        object.__setattr__(self, "coefficients", tuple(self.coefficients))
        count = 5 if self.interference == "linear" else 0
        fits = len(self.coefficients) == count and all(map(math.isfinite, self.coefficients))
        accepted = f"{count} finite numbers (interference={self.interference})"
        require(fits, "gpu.coefficients", self.coefficients, accepted)

    @property
    def slows(self) -> bool:
        """Whether batches slow each other, or batches and loads do."""
        return self.sharing == "processor" or self.interference != "none" or self.beside

    @property
    def beside(self) -> bool:
        """Whether batches and loads slow each other."""
        return self.batch_beside_load > 1.0 or self.load_beside_batch > 1.0

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

    The disk link is whatever brings weights to the host. As long as `disk_gib` is infinite every
    model lies behind it from the start, and it may stand for a local drive or for a store. Where
    `disk_gib` is finite the disk is empty at first: weights come from a store over `network`, then
    lie on the disk until they are the least recently used of those that must make room.
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
    disk_gib: float = math.inf
    """What the local drive holds. Weights that do not fit are streamed from the store each time."""
    network: Link | None = None
    """To the store; used, and required, where `disk_gib` is finite."""
    demotion: str = "instant"
    """How weights that leave a device get to the host: instant, as where the host has kept them
    pinned all along; copy: they take the bytes over PCIe's rate to be there (host memory is held
    from the start, device memory is free at once, and loads to the device are not slowed: PCIe is
    duplex)."""
    boot_s: float = 0.0
    """From the order to bring it up until it takes instances (Decision.nodes_wanted)."""

    def __post_init__(self) -> None:
        choose("node.loading", self.loading, "node.loading")
        choose("node.demotion", self.demotion, "node.demotion")
        require(len(self.gpus) >= 1, "node.gpus", len(self.gpus), "at least one GPU")
        require(self.host_gib >= 0.0, "node.host_gib", self.host_gib, ">= 0")
        price = self.host_price_usd_gib_h
        require(price >= 0.0, "node.host_price_usd_gib_h", price, ">= 0")
        require(self.disk_gib >= 0.0, "node.disk_gib", self.disk_gib, ">= 0")
        if self.network is None:
            require(self.disk_gib == math.inf, "node.network", None, "a Link (disk_gib is finite)")
        require(0.0 <= self.boot_s < math.inf, "node.boot_s", self.boot_s, "finite, >= 0")

    @property
    def kind(self) -> str:
        """Its class: that of its first GPU."""
        return self.gpus[0].kind

    def load_s(self, function: Function, source: str = "disk") -> float:
        """Start-up time of a function while nothing else loads; see `loads_s`."""
        return float(self.loads_s(Columns((function,)), source)[0])

    def loads_s(self, of: Columns, source: str = "disk") -> NDArray[np.float64]:
        """Start-up time of each function while nothing else loads. Shape: (F,)

        Each GPU that an instance spans takes its share of the weights over its own PCIe link, all
        at once. Such an instance is never copied from a peer.

        Args:
            of: the functions.
            source: `disk`, `host`, `peer` or `remote` (to the disk first, if it fits there); inf
                where the node has no such link.
        """
        started_s = of.sandbox_s + of.runtime_s + of.warmup_s
        if source == "peer":
            gib_s = 0.0 if self.nvlink is None else self.nvlink.gib_s
            if gib_s == 0.0:
                return np.full_like(started_s, math.inf)
            return started_s + np.where(of.gpus > 1.0, math.inf, of.weights_gib / gib_s)
        pcie_s = of.weights_gib / of.gpus / self.pcie.gib_s
        host_s = np.zeros_like(pcie_s)
        if source == "disk":
            host_s = self._to_host_s(of, self.disk)
        elif source == "remote":
            if self.network is None:
                return np.full_like(started_s, math.inf)
            host_s = self._to_host_s(of, self.network)
            if self.loading == "sequential":
                by_disk_s = of.disk_gib / self.network.gib_s + self._to_host_s(of, self.disk)
                host_s = np.where(of.disk_gib <= self.disk_gib, by_disk_s, host_s)
        if self.loading == "pipelined":
            host_s = np.maximum(host_s - pcie_s, 0.0)
        return started_s + pcie_s + host_s

    @staticmethod
    def _to_host_s(of: Columns, link: Link) -> NDArray[np.float64]:
        """How long weights take to the host over a link alone."""
        return of.weights_gib / np.minimum(link.gib_s * of.compression, of.load_gib_s)
