"""Problems of another source, spread over several GPUs of two classes and a host tier.

Units: seconds, GiB, dollars an hour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Service
from stoker.envs.problems import Problems, SyntheticProblems
from stoker.envs.workload import Workload

DEAR, CHEAP = "dear", "cheap"
PRICE_USD_H = 2.0
"""Of a dear GPU; an A100 on demand costs about as much."""


@dataclass(frozen=True)
class SpreadProblems:
    """The device of a pooled problem, divided among GPUs that each hold the largest function.

    Args:
        inner: where traffic, functions and the memory ratio come from.
        dear: GPUs of the dear class, on a node of their own.
        cheap: GPUs of the cheap class, on a second node.
        cheaper: price of a cheap GPU over that of a dear one.
        slower: service time there over that on a dear one.
        host_share: host memory of a node over the memory of its GPUs.
        max_batch: of every function; a batch of b takes (1 + b) / 2 of a single request's time.
        slo_slack_s: a request is in time within its service time on its own + this.
    """

    inner: Problems = SyntheticProblems()
    dear: int = 2
    cheap: int = 0
    cheaper: float = 0.35
    slower: float = 2.5
    host_share: float = 0.0
    max_batch: int = 1
    slo_slack_s: float = math.inf

    def __post_init__(self) -> None:
        for name, least in (("dear", 1), ("cheap", 0), ("max_batch", 1)):
            if getattr(self, name) < least:
                raise SpecError(f"problems.{name}", getattr(self, name), f"an integer >= {least}")
        for name in ("cheaper", "slower", "slo_slack_s"):
            if not getattr(self, name) > 0.0:
                raise SpecError(f"problems.{name}", getattr(self, name), "> 0")
        if not 0.0 <= self.host_share < math.inf:
            raise SpecError("problems.host_share", self.host_share, "finite, >= 0")

    @property
    def functions(self) -> int:
        """Most functions that a problem has."""
        return self.inner.functions

    @property
    def gpus(self) -> int:
        """GPUs of every problem."""
        return self.dear + self.cheap

    def sample(self, rng: np.random.Generator) -> tuple[Cluster, Workload]:
        """Draw a problem of the inner source and spread it.

        Service times are the functions' means: on two classes each request has two.
        """
        cluster, workload = self.inner.sample(rng)
        largest = max(f.device_gib for f in cluster.functions)
        each_gib = max(cluster.device_gib / self.gpus, largest)
        nodes = [self._node(cluster.node, DEAR, self.dear, each_gib, PRICE_USD_H)]
        if self.cheap:
            price = PRICE_USD_H * self.cheaper
            nodes.append(self._node(cluster.node, CHEAP, self.cheap, each_gib, price))
        functions = tuple(self._function(f) for f in cluster.functions)
        profile = f"{cluster.profile}, {self.dear} + {self.cheap} GPUs"
        made = replace(cluster, nodes=tuple(nodes), functions=functions, profile=profile)
        return made, replace(workload, service_s=None)

    def _node(self, like: Node, kind: str, gpus: int, each_gib: float, price: float) -> Node:
        host_gib = self.host_share * each_gib * gpus
        return replace(like, gpus=(Gpu(each_gib, price, kind),) * gpus, host_gib=host_gib)

    def _function(self, f: Function) -> Function:
        if self.max_batch > 1:
            f = replace(
                f, alpha_s=f.alpha_s / 2.0, beta_s=f.alpha_s / 2.0, max_batch=self.max_batch
            )
        slow = Service(CHEAP, f.alpha_s * self.slower, f.beta_s * self.slower)
        slo_s = f.alpha_s + f.beta_s + self.slo_slack_s
        return replace(f, services=(slow,) if self.cheap else (), slo_s=slo_s)
