"""What goes wrong in one episode: nodes lost, slow links, noise, late telemetry.

A `Faults` is a schedule, fixed before the run: `draw` makes one of `FaultRates` and a generator;
all that is drawn later (noise, lost samples) comes from its `seed`. So one seeded stream an episode
decides, and neither other rows nor the policy change what happens.

Shapes: K changes in order of time, Q quantiles, N requests.  Units: seconds, bytes a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.choices import choose
from stoker.envs.cluster.errors import require
from stoker.envs.cluster.losses import FAIL, NOTICE, RATE, RECLAIM, REPAIR
from stoker.envs.cluster.node import Link
from stoker.envs.cluster.spec import GIB, Cluster
from stoker.envs.cluster.tables import FAULT

Floats = NDArray[np.float64]
SERVICE_STREAM, LOAD_STREAM, TELEMETRY_STREAM = 0, 1, 2
"""What is drawn from a seed of `Faults`, each from a stream of its own."""
LEVELS = 41
"""Quantiles by which a lognormal factor is drawn; the outermost are those of 1.2 % and 98.8 %."""


def _check(owner: str, spec: Any, names: tuple[str, ...], least: float = 0.0) -> None:
    for name in names:
        value = getattr(spec, name)
        require(least <= value < math.inf, f"{owner}.{name}", value, f"finite, >= {least:g}")


@dataclass(frozen=True)
class NodeLoss:
    """A node is lost with everything on it: it fails, or is preempted after a notice."""

    t_s: float
    """When it fails, or when its preemption is announced."""
    node: int
    away_s: float = math.inf
    """From the loss until it can come up again (after its `boot_s`, if it is wanted)."""
    grace_s: float | None = None
    """Of a preemption: it drains so long, then it is lost. None = a failure, without notice."""

    def __post_init__(self) -> None:
        _check("loss", self, ("t_s",))
        require(self.node >= 0, "loss.node", self.node, ">= 0")
        require(self.away_s >= 0.0, "loss.away_s", self.away_s, ">= 0")
        if self.grace_s is not None:
            _check("loss", self, ("grace_s",))


@dataclass(frozen=True)
class SlowLink:
    """A link of a node moves less for a while; loads in progress go on at the lower rate."""

    t_s: float
    node: int
    link: str
    """disk, pcie (that of every GPU of the node), nvlink or network."""
    factor: float
    """On its rate, in (0, 1]; those of several at once multiply."""
    for_s: float

    def __post_init__(self) -> None:
        _check("slow", self, ("t_s", "for_s"))
        require(self.node >= 0, "slow.node", self.node, ">= 0")
        choose("slow.link", self.link, "slow.link")
        require(0.0 < self.factor <= 1.0, "slow.factor", self.factor, "in (0, 1]")


@dataclass(frozen=True)
class Faults:
    """Everything that goes wrong in one episode of one cluster.

    Raises:
        SpecError: names the field, the value and what is accepted.
    """

    losses: tuple[NodeLoss, ...] = ()
    slow: tuple[SlowLink, ...] = ()
    retry: bool = True
    """Requests in service on a node that is lost go back to the head of their queue; else, and
    always under scale_out=per_request, they fail."""
    load_factors: tuple[float, ...] = ()
    """Quantiles, evenly spaced, of the factor on a load's start-up time; () = no noise."""
    service_factors: tuple[float, ...] = ()
    """Likewise on the service time of a batch; its first request's factor is the batch's."""
    telemetry_delay_s: float = 0.0
    """A policy sees the newest sample that is at least this old."""
    telemetry_loss: float = 0.0
    """Chance that a sample (one is taken at each decision) never arrives; the first one does."""
    seed: int = 0
    """Of the noise and of the samples lost."""

    def __post_init__(self) -> None:
        for name in ("load_factors", "service_factors"):
            found = getattr(self, name)
            good = all(0.0 < q < math.inf for q in found) and list(found) == sorted(found)
            require(good, f"faults.{name}", found, "ascending numbers > 0")
        _check("faults", self, ("telemetry_delay_s", "telemetry_loss"))
        require(self.telemetry_loss < 1.0, "faults.telemetry_loss", self.telemetry_loss, "< 1")
        require(self.seed >= 0, "faults.seed", self.seed, ">= 0")

    def check(self, cluster: Cluster) -> None:
        """Raise SpecError unless a cluster has the nodes that are named."""
        nodes = len(cluster.all_nodes)
        for n in [loss.node for loss in self.losses] + [slow.node for slow in self.slow]:
            require(n < nodes, "faults.node", n, f"< {nodes} (nodes there are)")

    def schedule(self, cluster: Cluster) -> NDArray[Any]:
        """Every change of a node or link, in order of time. Shape: (K,), of tables.FAULT"""
        rows: list[tuple[float, int, int, float]] = []
        for loss in self.losses:
            gone = loss.t_s + (loss.grace_s or 0.0)
            if loss.grace_s is None:
                rows.append((gone, FAIL, loss.node, 0.0))
            else:
                rows.append((loss.t_s, NOTICE, loss.node, 0.0))
                rows.append((gone, RECLAIM, loss.node, 0.0))
            if loss.away_s < math.inf:
                rows.append((gone + loss.away_s, REPAIR, loss.node, 0.0))
        rows += self._rates(cluster)
        return np.array(sorted(rows, key=lambda row: row[0]), FAULT)

    def _rates(self, cluster: Cluster) -> list[tuple[float, int, int, float]]:
        """The rate of every link that is slow at some time, from each change on."""
        hit: dict[int, tuple[Link, list[SlowLink]]] = {}
        for slow in self.slow:
            for at, link in _links_of(cluster, slow.node, slow.link):
                hit.setdefault(at, (link, []))[1].append(slow)
        rows = []
        for at, (link, events) in sorted(hit.items()):
            for t in sorted({e.t_s for e in events} | {e.t_s + e.for_s for e in events}):
                factors = [e.factor for e in events if e.t_s <= t < e.t_s + e.for_s]
                rows.append((t, RATE, at, link.gib_s * GIB * math.prod(factors)))
        return rows

    def factors(self, stream: int, count: int) -> Floats | None:
        """Draw the factors of a stream, or None where there is no noise. Shape: (count,)"""
        quantiles = self.service_factors if stream == SERVICE_STREAM else self.load_factors
        if not quantiles:
            return None
        draws = np.random.default_rng([self.seed, stream]).random(count)
        found: Floats = np.interp(draws, np.linspace(0.0, 1.0, len(quantiles)), quantiles)
        return found


def _links_of(cluster: Cluster, n: int, name: str) -> list[tuple[int, Link]]:
    """Numbers (see tables.py) and specs of a node's links of a name; none where it has none."""
    nodes, gpus = cluster.all_nodes, len(cluster.gpus)
    node = nodes[n]
    if name == "pcie":
        first = len(nodes) + sum(len(other.gpus) for other in nodes[:n])
        return [(first + k, node.pcie) for k in range(len(node.gpus))]
    first, link = {
        "disk": (0, node.disk),
        "nvlink": (len(nodes) + gpus, node.nvlink),
        "network": (2 * len(nodes) + gpus, node.network),
    }[name]
    return [] if link is None else [(first + n, link)]


@dataclass(frozen=True)
class FaultRates:
    """How often things go wrong; nothing does by default. Times between are exponential.

    The defaults of a preemption's grace (30 s) follow SpotServe, ASPLOS 2024, section 2.
    """

    failure_every_s: float = math.inf
    """Mean time that a node is up between two failures..."""
    repair_s: float = 600.0
    """...and mean time until it can come up again."""
    preemption_every_s: float = math.inf
    grace_s: float = 30.0
    preempted_s: float = 600.0
    """Mean time until the capacity is offered again."""
    slow_every_s: float = math.inf
    """Mean time between two slow spells of a link..."""
    slow_for_s: float = 60.0
    """...and their mean length."""
    slow_factor: tuple[float, float] = (0.25, 0.75)
    """The factor on the rate is uniform between these."""
    slow_links: tuple[str, ...] = ("disk", "pcie", "network")
    load_sigma: float = 0.0
    """Of the lognormal factor, of median 1, on start-up times; service times likewise."""
    service_sigma: float = 0.0
    load_factors: tuple[float, ...] = ()
    """Measured quantiles of the factor on start-up times, equally spaced from the least to the
    largest, in place of load_sigma; service times likewise."""
    service_factors: tuple[float, ...] = ()
    telemetry_delay_s: tuple[float, float] = (0.0, 0.0)
    """Uniform between these, one an episode."""
    telemetry_loss: float = 0.0
    retry: bool = True

    def __post_init__(self) -> None:
        _check("rates", self, ("repair_s", "grace_s", "preempted_s", "slow_for_s", "load_sigma",
                               "service_sigma", "telemetry_loss"))  # fmt: skip
        for name in ("failure_every_s", "preemption_every_s", "slow_every_s"):
            require(getattr(self, name) > 0.0, f"rates.{name}", getattr(self, name), "> 0")
        for f in fields(self):  # lists come from configs
            if isinstance(getattr(self, f.name), list):
                object.__setattr__(self, f.name, tuple(getattr(self, f.name)))
        for name in ("load", "service"):
            measured, sigma = getattr(self, f"{name}_factors"), getattr(self, f"{name}_sigma")
            accepted = f"0 (rates.{name}_factors are given)"
            require(not (measured and sigma), f"rates.{name}_sigma", sigma, accepted)
        low, high = self.slow_factor
        require(0.0 < low <= high <= 1.0, "rates.slow_factor", self.slow_factor, "in (0, 1]")
        low, high = self.telemetry_delay_s
        require(0.0 <= low <= high < math.inf, "rates.telemetry_delay_s", (low, high), ">= 0")
        for link in self.slow_links:
            choose("rates.slow_links", link, "slow.link")

    @property
    def late(self) -> bool:
        """Whether figures reach the policy late or not at all."""
        return any(self.telemetry_delay_s) or self.telemetry_loss > 0.0


def lognormal_factors(sigma: float) -> tuple[float, ...]:
    """Quantiles of exp(sigma z), z standard normal, in the form of `Faults`; () for no noise."""
    levels = [(k + 0.5) / LEVELS for k in range(LEVELS)]
    return tuple(math.exp(sigma * NormalDist().inv_cdf(p)) for p in levels) if sigma else ()


def draw(rng: np.random.Generator, cluster: Cluster, horizon_s: float, rates: FaultRates) -> Faults:
    """Draw what goes wrong in one episode.

    Args:
        rng: the only source of randomness.
        cluster: whose nodes and links are hit, each by a process of its own.
        horizon_s: of the workload.
        rates: how often what happens.
    """

    def times(every_s: float, away: Callable[[], float]) -> list[tuple[float, float]]:
        """When it begins and how long it lasts; the next one comes after it has ended."""
        found, t = [], 0.0
        while every_s < math.inf and (t := t + float(rng.exponential(every_s))) < horizon_s:
            found.append((t, away()))
            t += found[-1][1]
        return found

    def lasting(mean_s: float) -> Callable[[], float]:
        return lambda: float(rng.exponential(mean_s))

    losses, slow = [], []
    for n in range(len(cluster.all_nodes)):
        for t, away in times(rates.failure_every_s, lasting(rates.repair_s)):
            losses.append(NodeLoss(t, n, away))
        for t, away in times(rates.preemption_every_s, lasting(rates.preempted_s)):
            losses.append(NodeLoss(t, n, away, rates.grace_s))
        for link in rates.slow_links:
            for t, for_s in times(rates.slow_every_s, lasting(rates.slow_for_s)):
                slow.append(SlowLink(t, n, link, float(rng.uniform(*rates.slow_factor)), for_s))
    return Faults(
        tuple(losses), tuple(slow), rates.retry,
        rates.load_factors or lognormal_factors(rates.load_sigma),
        rates.service_factors or lognormal_factors(rates.service_sigma),
        float(rng.uniform(*rates.telemetry_delay_s)), rates.telemetry_loss,
        int(rng.integers(2**62)),
    )  # fmt: skip
