"""One model on one GPU, fixed or under Poisson arrivals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.workload import Workload
from stoker.envs.workload.processes import poisson


def model(name="m", *, alpha_s=1.0, beta_s=0.5, max_batch=4, slo_s=4.0, **changes):
    """A function that is loaded at once: a batch of b takes 1 + b / 2 seconds."""
    spec = {"alpha_s": alpha_s, "beta_s": beta_s, "max_batch": max_batch, "slo_s": slo_s}
    return Function(name, **{"weights_gib": 0.0, "device_gib": 1.0, **spec, **changes})


@dataclass(frozen=True)
class Fixed:
    """The same problem every episode."""

    arrival_s: tuple[float, ...]
    function: tuple[int, ...] | None = None
    models: tuple[Function, ...] = (model(),)
    horizon_s: float = 1000.0
    gpus: int = 1
    sharing: str = "exclusive"

    @property
    def functions(self):
        return len(self.models)

    def sample(self, rng):
        count = len(self.arrival_s)
        which = np.array(self.function or (0,) * count, np.int32)
        names = tuple(f.name for f in self.models)
        gpu = Gpu(float(self.functions), sharing=self.sharing)
        cluster = Cluster(Node((gpu,)), self.models)
        return cluster, Workload(np.array(self.arrival_s), which, names, self.horizon_s)


@dataclass(frozen=True)
class PoissonProblems:
    """Poisson arrivals of one model."""

    rate_hz: float
    model: Function
    horizon_s: float
    functions: int = 1
    gpus: int = 1

    def sample(self, rng):
        times = poisson(rng, self.rate_hz, self.horizon_s)
        cluster = Cluster(Node((Gpu(1.0),)), (self.model,))
        index = np.zeros(len(times), np.int32)
        return cluster, Workload(times, index, (self.model.name,), self.horizon_s)
