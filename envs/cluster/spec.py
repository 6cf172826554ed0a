"""The frozen description of a cluster: node, GPUs, links, functions, prices and rules.

Units: seconds, GiB, GiB/s, dollars (prices per hour as clouds quote them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import NoReturn

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.rules.params import DEFAULTS

GIB = float(2**30)
CHOICES = {
    "rules.scale_out": ("per_request", "target_concurrency", "wait_vs_cold"),
    "rules.placement": ("most_free", "first_fit", "best_fit", "soonest", "shared_bytes"),
    "rules.eviction": (
        "lru", "greedy_dual", "freq", "size", "lfu", "landlord", "score", "hazard",
    ),
    "rules.order": ("fcfs", "edf", "collation", "required_request_count"),
    "rules.plan": ("decision", "hybrid_histogram", "hazard"),
    "rules.overload": ("queue", "drop"),
    "rules.eviction_need": ("shortfall", "full"),
    "rules.futile_eviction": ("never", "allowed"),
    "rules.clone_choice": ("mru", "lru", "newest", "arbitrary"),
    "rules.ttl_anchor": ("end", "start"),
    "rules.ttl_expiry": ("eager", "lazy"),
    "rules.frequency": ("function", "instance"),
    "rules.clock": ("max", "assign"),
    "link.discipline": ("fair", "fifo"),
    "gpu.sharing": ("parallel", "exclusive"),
    "node.loading": ("sequential", "pipelined"),
}  # fmt: skip


def _require(condition: bool, field_name: str, value: object, accepted: str) -> None:
    if not condition:
        raise SpecError(field_name, value, accepted)


def _choice(field_name: str, value: str, kind: str) -> None:
    if value not in CHOICES[kind]:
        raise SpecError(field_name, value, " | ".join(CHOICES[kind]))


@dataclass(frozen=True)
class Service:
    """How long a batch of b takes on one class of GPU: alpha_s + beta_s * b."""

    kind: str
    """Gpu.kind that this is for."""
    alpha_s: float
    beta_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("alpha_s", "beta_s"):
            value = getattr(self, name)
            _require(0.0 <= value < math.inf, f"service[{self.kind}].{name}", value, "finite, >= 0")


AMOUNTS = (
    "weights_gib", "device_gib", "runtime_s", "warmup_s", "alpha_s", "beta_s", "overlap_s",
    "shared_gib",
)  # fmt: skip
"""Fields of a function that may be nothing."""


@dataclass(frozen=True)
class Function:
    """One deployed model endpoint.

    Start-up is runtime_s, then weights disk -> host -> device over the node's links (the disk leg
    is skipped when the weights lie in the node's host memory), then warmup_s. Service of a batch of
    b takes alpha_s + beta_s * b, or what `services` says of the GPU's class.
    """

    name: str
    weights_gib: float
    """Bytes moved on a load, and held in host memory by a host copy."""
    device_gib: float
    """Bytes that one instance holds on the device, weights included."""
    runtime_s: float = 0.0
    """Process, framework and device context."""
    warmup_s: float = 0.0
    """First-use warm-up after the weights are on the device."""
    load_gib_s: float = math.inf
    """Ceiling of this function's own format or storage class on the disk leg."""
    alpha_s: float = 0.0
    beta_s: float = 0.0
    max_batch: int = 1
    concurrency: int = 1
    """Batches in flight on one instance."""
    slo_s: float = math.inf
    """Latency target of a request, arrival to completion."""
    services: tuple[Service, ...] = ()
    """Service times on classes of GPU where they differ from alpha_s and beta_s."""
    compression: float = 1.0
    """Bytes of the weights over those on disk (Sabre); load_gib_s is then that of the raw bytes."""
    fork_s: float = math.inf
    """In place of runtime_s where an instance of the function is ready on the node (Catalyzer)."""
    overlap_s: float = 0.0
    """How much of the service of the batch that a load was for runs while it loads (PipeSwitch)."""
    family: str = ""
    """Functions of one family share `shared_gib` of their weights on a GPU (Tetris)."""
    shared_gib: float = 0.0

    def __post_init__(self) -> None:
        for name in AMOUNTS:
            if not 0.0 <= getattr(self, name) < math.inf:
                self._refuse(name, "finite, >= 0")
        for name in ("load_gib_s", "slo_s", "compression"):
            if not getattr(self, name) > 0.0:
                self._refuse(name, "> 0")
        if not self.fork_s >= 0.0:
            self._refuse("fork_s", ">= 0")
        if self.shared_gib > (min(self.weights_gib, self.device_gib) if self.family else 0.0):
            self._refuse("shared_gib", "<= the weights on the device, and 0 without a family")
        for name in ("max_batch", "concurrency"):
            if not getattr(self, name) >= 1:
                self._refuse(name, "an integer >= 1")
        if len({s.kind for s in self.services}) < len(self.services):
            self._refuse("services", "one a class of GPU")

    def service(self, kind: str) -> tuple[float, float]:
        """Return alpha_s and beta_s on a class of GPU."""
        for s in self.services:
            if s.kind == kind:
                return s.alpha_s, s.beta_s
        return self.alpha_s, self.beta_s

    def _refuse(self, name: str, accepted: str) -> NoReturn:
        raise SpecError(f"function[{self.name}].{name}", getattr(self, name), accepted)


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
        _require(self.memory_gib > 0.0, "gpu.memory_gib", self.memory_gib, "> 0")
        for name in ("price_usd_h", "idle_w", "busy_w"):
            value = getattr(self, name)
            _require(0.0 <= value < math.inf, f"gpu.{name}", value, "finite, >= 0")
        _choice("gpu.sharing", self.sharing, "gpu.sharing")

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
        _require(self.gib_s > 0.0, "link.gib_s", self.gib_s, "> 0")
        _choice("link.discipline", self.discipline, "link.discipline")
        _require(self.slots >= 1, "link.slots", self.slots, "an integer >= 1")


@dataclass(frozen=True)
class Node:
    """GPUs behind one host memory, one disk link and one host-to-device link (PCIe) a GPU.

    The disk link is whatever brings weights to the host: a local drive or the network to a store.
    """

    gpus: tuple[Gpu, ...]
    host_gib: float = 0.0
    """Pinned host memory for weights; 0 = no host tier."""
    host_price_usd_gib_h: float = 0.0
    disk: Link = Link()
    pcie: Link = Link()
    loading: str = "sequential"
    """sequential: weights reach the host, then the device; pipelined: in chunks, so that the
    slowest link decides, not the sum (ServerlessLLM, OSDI 2024)."""
    nvlink: Link | None = None
    """Between its GPUs: weights that are ready on one may be copied to another (Torpor)."""

    def __post_init__(self) -> None:
        _choice("node.loading", self.loading, "node.loading")
        _require(len(self.gpus) >= 1, "node.gpus", len(self.gpus), "at least one GPU")
        _require(self.host_gib >= 0.0, "node.host_gib", self.host_gib, ">= 0")
        price = self.host_price_usd_gib_h
        _require(price >= 0.0, "node.host_price_usd_gib_h", price, ">= 0")

    def load_s(self, function: Function, source: str = "disk") -> float:
        """Start-up time of a function while nothing else loads, from `disk`, `host` or `peer`."""
        if source == "peer":
            gib_s = 0.0 if self.nvlink is None else self.nvlink.gib_s
            copy_s = function.weights_gib / gib_s if gib_s > 0.0 else math.inf
            return function.runtime_s + function.warmup_s + copy_s
        pcie_s = function.weights_gib / self.pcie.gib_s
        disk_s = 0.0
        if source == "disk":
            gib_s = min(self.disk.gib_s * function.compression, function.load_gib_s)
            disk_s = function.weights_gib / gib_s
            if self.loading == "pipelined":
                disk_s = max(disk_s - pcie_s, 0.0)
        return function.runtime_s + function.warmup_s + pcie_s + disk_s


@dataclass(frozen=True)
class Rules:
    """Event-level choices by name, and the parity switches (all documented in docs/rules.md)."""

    scale_out: str = "target_concurrency"
    """per_request: a request without a free slot starts (and is bound to) an instance of its own;
    target_concurrency: requests wait in their function's queue, a new instance is started when the
    slots that exist or load cannot hold the queue; wait_vs_cold: likewise, but only if it would be
    ready before a slot is expected to be free."""
    placement: str = "most_free"
    eviction: str = "lru"
    plan: str = "decision"
    """Who sets keep-alive when an instance becomes idle: the last Decision, or a compiled rule."""
    order: str = "fcfs"
    """Which waiting function gets memory, and who runs next on an exclusive GPU."""
    overload: str = "queue"
    eviction_need: str = "shortfall"
    futile_eviction: str = "never"
    """allowed: idle instances leave even when that cannot make enough room."""
    clone_choice: str = "mru"
    ttl_anchor: str = "end"
    ttl_expiry: str = "eager"
    frequency: str = "function"
    clock: str = "max"
    time_quantum_s: float = 0.0
    """Round every computed time to this grid (0 = off): integer-millisecond simulators."""
    params: dict[str, float] = field(default_factory=dict)
    """Numbers of the rule in use, e.g. hazard decay; see the rule's file."""

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name not in ("params", "time_quantum_s"):
                _choice(f"rules.{f.name}", getattr(self, f.name), f"rules.{f.name}")
        _require(self.time_quantum_s >= 0.0, "rules.time_quantum_s", self.time_quantum_s, ">= 0")
        if self.scale_out == "per_request":
            _require(self.overload == "drop", "rules.overload", self.overload, "drop (per_request)")
            _require(self.order == "fcfs", "rules.order", self.order, "fcfs (per_request)")
        if self.order == "required_request_count":
            accepted = "queue (order is required_request_count)"
            _require(self.overload == "queue", "rules.overload", self.overload, accepted)
        if self.eviction_need == "full":
            accepted = "a rule by priority: lru | greedy_dual | freq | size | lfu | landlord"
            _require(
                self.eviction not in ("score", "hazard"), "rules.eviction", self.eviction, accepted
            )
        for name, value in self.params.items():
            _require(name in DEFAULTS, f"rules.params.{name}", value, " | ".join(DEFAULTS))
            _require(math.isfinite(value), f"rules.params.{name}", value, "a finite number")
            if name.endswith("_decay"):
                _require(0.0 < value <= 1.0, f"rules.params.{name}", value, "in (0, 1]")
            if name == "hybrid_minute_s":
                _require(value > 0.0, f"rules.params.{name}", value, "> 0")
            if name == "order_max_wait_s":
                _require(value >= 0.0, f"rules.params.{name}", value, ">= 0")
            if name == "order_required_requests":
                _require(value >= 1.0, f"rules.params.{name}", value, ">= 1")


@dataclass(frozen=True)
class Objective:
    """What the operator pays: rent and load energy in dollars, waiting priced in dollars."""

    wait_usd_s: float = 1.0
    """Dollars a second that a request waits before it starts."""
    load_usd_s: float = 0.0
    """Dollars a second of start-up work (energy and wear), on demand or ahead of it."""
    drop_usd: float = 0.0
    """Dollars a refused request."""
    billing: str = "memory"

    def __post_init__(self) -> None:
        for name in ("wait_usd_s", "load_usd_s", "drop_usd"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0.0, f"objective.{name}", value, ">= 0")
        _require(self.billing in ("memory", "gpu"), "objective.billing", self.billing, "memory|gpu")


@dataclass(frozen=True)
class Cluster:
    """A cluster that can be built: every function fits some GPU.

    Raises:
        SpecError: names the field, the value and what is accepted.
    """

    nodes: Node | tuple[Node, ...]
    """One node, or several; GPUs are numbered through them in order."""
    functions: tuple[Function, ...]
    objective: Objective = Objective()
    first_bin_s: float = 3.0
    """Upper edge of the first bin of the gap histograms; five further ones double it, and so
    on. Scale it with the trace when time is compressed."""
    profile: str = "unnamed"
    """The calibration profile that the figures rest on."""
    drop_oversized: bool = False
    """Accept functions larger than every GPU; their requests are dropped (public simulators)."""

    def __post_init__(self) -> None:
        nodes = (self.nodes,) if isinstance(self.nodes, Node) else tuple(self.nodes)
        object.__setattr__(self, "nodes", nodes)
        _require(len(nodes) >= 1, "cluster.nodes", 0, "at least one node")
        _require(len(self.functions) >= 1, "cluster.functions", 0, "at least one function")
        names = [f.name for f in self.functions]
        if len(set(names)) < len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise SpecError("function.name", twice, "names that differ")
        shared: dict[str, float] = {}
        for f in self.functions:
            if f.family and shared.setdefault(f.family, f.shared_gib) != f.shared_gib:
                at = f"function[{f.name}].shared_gib"
                raise SpecError(at, f.shared_gib, f"{shared[f.family]} (as all of its family)")
        largest = max(g.memory_gib for g in self.gpus)
        for f in self.functions:
            if f.device_gib > largest and not self.drop_oversized:
                at = f"function[{f.name}].device_gib"
                raise SpecError(at, f.device_gib, f"<= {largest} (largest GPU)")
        _require(self.first_bin_s > 0.0, "cluster.first_bin_s", self.first_bin_s, "> 0")

    @property
    def node(self) -> Node:
        """The only node.

        Raises:
            SpecError: there are several.
        """
        nodes = self.all_nodes
        _require(len(nodes) == 1, "cluster.nodes", len(nodes), "1 here")
        return nodes[0]

    @property
    def all_nodes(self) -> tuple[Node, ...]:
        """The nodes, whether one was given or several."""
        assert isinstance(self.nodes, tuple)  # made one at construction
        return self.nodes

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs of all nodes, in order."""
        return tuple(g for node in self.all_nodes for g in node.gpus)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The classes of GPU that there are, in order of their first."""
        return tuple(dict.fromkeys(g.kind for g in self.gpus))

    @property
    def host_gib(self) -> float:
        """Host memory of the node that has most."""
        return max(node.host_gib for node in self.all_nodes)

    @property
    def families(self) -> tuple[str, ...]:
        """The families whose functions share weights, in order of their first."""
        return tuple(dict.fromkeys(f.family for f in self.functions if f.shared_gib > 0.0))

    @property
    def device_gib(self) -> float:
        """Device memory of all GPUs together."""
        return math.fsum(g.memory_gib for g in self.gpus)

    @property
    def device_usd_gib_s(self) -> float:
        """Mean price of device memory: the hourly price of the GPUs over their GiB."""
        hourly = math.fsum(g.price_usd_h for g in self.gpus)
        return hourly / self.device_gib / 3600.0 if math.isfinite(self.device_gib) else 0.0

    @property
    def host_usd_gib_s(self) -> float:
        """Mean price of pinned host memory."""
        total = math.fsum(n.host_gib for n in self.all_nodes)
        if not 0.0 < total < math.inf:
            return self.all_nodes[0].host_price_usd_gib_h / 3600.0
        hourly = math.fsum(n.host_gib * n.host_price_usd_gib_h for n in self.all_nodes)
        return hourly / total / 3600.0

    def load_s(self, fn: int, source: str = "disk") -> float:
        """Start-up time of a function on the fastest node while nothing else loads."""
        return min(node.load_s(self.functions[fn], source) for node in self.all_nodes)
