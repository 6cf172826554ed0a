"""Where an environment's episodes come from: one (cluster, workload) after the other.

Units: seconds, GiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster, Gpu, Link, Node, Objective
from stoker.envs.workload import Workload, generate, memory_ratio, to_gpu

Rng = np.random.Generator


class Problems(Protocol):
    """A source of problems of bounded size."""

    @property
    def functions(self) -> int:
        """Most functions that a problem has."""
        ...

    @property
    def gpus(self) -> int:
        """Most GPUs that a problem has."""
        ...

    def sample(self, rng: Rng) -> tuple[Cluster, Workload]:
        """Draw a problem."""
        ...


def stream(seed: int, row: int, episode: int) -> Rng:
    """The generator of one episode of one row: results do not depend on the number of rows."""
    return np.random.Generator(np.random.Philox(key=[seed, (row << 32) | episode]))


@dataclass(frozen=True)
class SyntheticProblems:
    """Zipf-popular functions with a mix of arrival processes on one pooled device."""

    functions: int = 8
    hours: float = 2.0
    requests_per_s: float = 0.05
    ratios: Sequence[float] = (0.5,)
    disk: Sequence[Link] = (Link(),)
    objective: Objective = Objective(wait_usd_s=0.01, load_usd_s=0.0025)
    gpus: int = 1

    def __post_init__(self) -> None:
        if self.functions < 1:
            raise SpecError("problems.functions", self.functions, ">= 1")
        if not all(r > 0.0 for r in self.ratios):
            raise SpecError("problems.ratios", tuple(self.ratios), "ratios > 0")

    def sample(self, rng: Rng) -> tuple[Cluster, Workload]:
        """Draw traffic, functions, a memory ratio and a disk link."""
        workload = generate(
            rng, functions=self.functions, hours=self.hours, requests_per_s=self.requests_per_s
        )
        return _problem(workload, rng, self.ratios, self.disk, self.objective), workload


@dataclass(frozen=True)
class TraceProblems:
    """Random functions and hours of one trace, mapped to models anew for every episode."""

    workload: Workload
    functions: int = 64
    hours: float = 4.0
    ratios: Sequence[float] = (0.5, 0.6, 0.7, 0.8)
    disk: Sequence[Link] = (Link(),)
    objective: Objective = Objective(wait_usd_s=0.01, load_usd_s=0.0025)
    first_bin_s: float = 3.0
    gpus: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.functions <= len(self.workload.names):
            accepted = f"1..{len(self.workload.names)} (functions of the trace)"
            raise SpecError("problems.functions", self.functions, accepted)
        if not 0.0 < self.hours * 3600.0 <= self.workload.horizon_s:
            accepted = f"0 < hours <= {self.workload.horizon_s / 3600.0:g} (length of the trace)"
            raise SpecError("problems.hours", self.hours, accepted)

    def sample(self, rng: Rng) -> tuple[Cluster, Workload]:
        """Draw functions, a window, a mapping, a memory ratio and a disk link."""
        chosen: NDArray[np.int64] = np.sort(
            rng.choice(len(self.workload.names), self.functions, replace=False)
        )
        length = self.hours * 3600.0
        start = float(rng.uniform(0.0, self.workload.horizon_s - length))
        part = self.workload.window(start, start + length).select(chosen)
        cluster = _problem(part, rng, self.ratios, self.disk, self.objective, self.first_bin_s)
        return cluster, part


def _problem(
    workload: Workload,
    rng: Rng,
    ratios: Sequence[float],
    disk: Sequence[Link],
    objective: Objective,
    first_bin_s: float = 3.0,
) -> Cluster:
    """A pooled device for these functions at a drawn memory ratio and disk link."""
    functions = to_gpu.lognormal(workload, rng)
    ratio = float(ratios[int(rng.integers(len(ratios)))])
    link = disk[int(rng.integers(len(disk)))]
    device = Gpu(memory_ratio(workload, functions, ratio))
    profile = f"{to_gpu.profile('lognormal')}, memory ratio {ratio:g}"
    node = Node((device,), disk=link)
    return Cluster(node, functions, objective, first_bin_s=first_bin_s, profile=profile)
