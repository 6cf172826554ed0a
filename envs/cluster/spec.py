"""The frozen description of a cluster: node, GPUs, links, functions, prices and rules.

Units: seconds, GiB, GiB/s, dollars (prices per hour as clouds quote them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.choices import CHOICES, choose
from stoker.envs.cluster.columns import Columns
from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.function import Function, Service
from stoker.envs.cluster.llm_spec import Llm, check_llm_gpus
from stoker.envs.cluster.node import Gpu, Link, Node
from stoker.envs.cluster.ruleset import Rules
from stoker.envs.cluster.sharing_spec import check_interference
from stoker.envs.cluster.span_spec import check_span

__all__ = [
    "CHOICES",
    "GIB",
    "Cluster",
    "Function",
    "Gpu",
    "Link",
    "Llm",
    "Node",
    "Objective",
    "Rules",
    "Service",
]

GIB = float(2**30)


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
    """memory: bytes held, at the GPU's price over its GiB; gpu: whole GPUs while anything is on
    them; node: all GPUs of a node while it is up (or comes up, or drains)."""

    def __post_init__(self) -> None:
        for name in ("wait_usd_s", "load_usd_s", "drop_usd"):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0.0, f"objective.{name}", value, ">= 0")
        choose("objective.billing", self.billing, "objective.billing")


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
        require(len(nodes) >= 1, "cluster.nodes", 0, "at least one node")
        require(len(self.functions) >= 1, "cluster.functions", 0, "at least one function")
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
            if f.gpus > 1:
                check_span(f, nodes, self.drop_oversized)
            elif f.device_gib > largest and not self.drop_oversized:
                at = f"function[{f.name}].device_gib"
                raise SpecError(at, f.device_gib, f"<= {largest} (largest GPU)")
        check_interference(self.functions, self.gpus)
        check_llm_gpus(self.functions, self.gpus)
        require(self.first_bin_s > 0.0, "cluster.first_bin_s", self.first_bin_s, "> 0")

    @property
    def node(self) -> Node:
        """The only node.

        Raises:
            SpecError: there are several.
        """
        nodes = self.all_nodes
        require(len(nodes) == 1, "cluster.nodes", len(nodes), "1 here")
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

    @cached_property
    def images(self) -> tuple[tuple[str, str], ...]:
        """The images of its functions, in order of their first, where some leave layers or lend."""
        if not any(f.layered for f in self.functions):
            return ()
        return tuple(dict.fromkeys(f.image for f in self.functions))

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

    @cached_property
    def columns(self) -> Columns:
        """The numbers of its functions."""
        return Columns(self.functions)

    def load_s(self, fn: int, source: str = "disk") -> float:
        """Start-up time of a function on the fastest node while nothing else loads."""
        return min(node.load_s(self.functions[fn], source) for node in self.all_nodes)

    def loads_s(self, source: str = "disk") -> NDArray[np.float64]:
        """Start-up time of each function on its fastest node likewise. Shape: (F,)"""
        each = [node.loads_s(self.columns, source) for node in self.all_nodes]
        fastest: NDArray[np.float64] = np.min(each, axis=0)
        return fastest
