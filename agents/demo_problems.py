"""Episodes of the demo: functions and hours of a trace on this machine's models, anew each time.

Units: seconds (of the compressed clock).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stoker.agents.deployed import Deployed
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster
from stoker.envs.workload import Workload


@dataclass(frozen=True)
class DeployedProblems:
    """Random functions and windows of one trace, dealt to the models anew for every episode."""

    deployed: Deployed
    workload: Workload
    """Compressed."""
    functions: int
    window_s: float
    ratios: Sequence[float] = (0.5,)
    gpus: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.functions <= len(self.workload.names):
            accepted = f"1..{len(self.workload.names)} (functions of the trace)"
            raise SpecError("problems.functions", self.functions, accepted)
        if not 0.0 < self.window_s <= self.workload.horizon_s:
            accepted = f"> 0, <= {self.workload.horizon_s:g} s (length of the trace)"
            raise SpecError("problems.window_s", self.window_s, accepted)

    def sample(self, rng: np.random.Generator) -> tuple[Cluster, Workload]:
        """Draw functions, a window, their models and a memory ratio."""
        part = self.traffic(rng)
        deployments = self.deployed.draw(part.names, rng)
        ratio = float(self.ratios[int(rng.integers(len(self.ratios)))])
        return self.deployed.cluster(deployments, part, ratio), part

    def traffic(self, rng: np.random.Generator) -> Workload:
        """Draw functions and a window."""
        count = len(self.workload.names)
        chosen = np.sort(rng.choice(count, self.functions, replace=False))
        start_s = float(rng.uniform(0.0, self.workload.horizon_s - self.window_s))
        return self.workload.select(chosen).window(start_s, start_s + self.window_s)
