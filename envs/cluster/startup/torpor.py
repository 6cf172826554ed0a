"""Torpor, first FaaSwap (ATC 2025, arXiv 2306.03622): a request is bound to a GPU when it arrives.

Models lie in host memory. A request takes the quickest source that there is:

| source | condition | latency, n groups over a link of bandwidth bw |
| --- | --- | --- |
| `run` | the model is on an idle GPU | C |
| `peer` | it is on another GPU, linked to an idle one | max(T + C / n, T / n + C) over NVLink |
| `host` | always | the same over PCIe |

with C the execution and T = n alpha + size / bw the copy; copy and execution are pipelined as in
PipeSwitch (`pipeswitch.even_s`). In the limit of many groups without overhead it is max(T, C).

Follows the paper's late binding, pipelined execution and use of the GPU interconnect (abstract,
read); the order of the sources is recalled, sections and code were not looked up. Where NVLink is
the faster link the least latency gives that order. Two swaps behind one PCIe switch share its rate:
pass the rate that is left. Queueing by required requests and eviction are not modelled here.
Quoted, not reproduced: hundreds of functions on 4 GPUs; cost of GPUs down 70 % for users, 65 % for
the platform.

Units: seconds, GiB, GiB/s.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker.envs.cluster.startup.arguments import amount, count, rate
from stoker.envs.cluster.startup.pipeswitch import even_s


@dataclass(frozen=True)
class Swap:
    """A model about to run, and the links that it can come over.

    Raises:
        SpecError: a negative size or duration, a rate that is not positive, no group.
    """

    size_gib: float
    exec_s: float
    """Execution on a GPU that holds the model."""
    pcie_gib_s: float
    nvlink_gib_s: float
    groups: int = 1
    """Groups that copy and execution are pipelined in; 1 = one after the other."""
    alpha_s: float = 0.0
    """Overhead of one group."""

    def __post_init__(self) -> None:
        for name in ("size_gib", "exec_s", "alpha_s"):
            amount(name, getattr(self, name))
        for name in ("pcie_gib_s", "nvlink_gib_s"):
            rate(name, getattr(self, name))
        count("groups", self.groups)

    @property
    def run_s(self) -> float:
        """Latency where the model is."""
        return self.exec_s

    @property
    def peer_s(self) -> float:
        """Latency over NVLink from another GPU."""
        return self._copied_s(self.nvlink_gib_s)

    @property
    def host_s(self) -> float:
        """Latency over PCIe from host memory."""
        return self._copied_s(self.pcie_gib_s)

    def choose(self, *, resident_idle: bool, on_peer: bool) -> tuple[str, float]:
        """Choose the source of least latency, the first of equals; return it with its latency.

        Args:
            resident_idle: an idle GPU holds the model.
            on_peer: a GPU that is linked to an idle one holds it.
        """
        sources = {"host": self.host_s}
        if on_peer:
            sources = {"peer": self.peer_s} | sources
        if resident_idle:
            sources = {"run": self.run_s} | sources
        return min(sources.items(), key=lambda source: source[1])

    def _copied_s(self, gib_s: float) -> float:
        return even_s(self.size_gib, self.exec_s, self.groups, gib_s, self.alpha_s)
