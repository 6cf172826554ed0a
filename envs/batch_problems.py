"""Where episodes of `stoker/Batching-v0` come from: models that are loaded, and bursty traffic.

Units: seconds, requests per second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.profiles.service import times
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.problems import Rng
from stoker.envs.workload import Workload
from stoker.envs.workload.processes import gamma, within

MODELS = ("ResNet-50", "BERT-base-uncased", "all-MiniLM-L6-v2", "ViT-L/16")
"""Of the catalogue, those that take batches."""
BIN_OF_TARGET = 0.3
"""First bin of the gap histograms over the latency target: rates are kept over 1 to 360 targets."""


@lru_cache
def service(model: str, gpu: str) -> tuple[float, float]:
    """Find alpha_s and beta_s of a model on a GPU class."""
    alpha, beta = times(model, gpu, dtype="bf16", prompt_tokens=1.0, output_tokens=1.0)
    return alpha.value, beta.value


@dataclass(frozen=True)
class BatchProblems:
    """Functions that take turns on one GPU, each with one instance that is loaded from the start.

    Every episode draws the models, the share of the GPU's best throughput that is asked for, how
    bursty the traffic is, and the latency target.
    """

    functions: int = 1
    requests: int = 2500
    """Expected, of all functions together."""
    models: Sequence[str] = MODELS
    gpu: str = "A100"
    max_batch: int = 32
    load: tuple[float, float] = (0.5, 1.2)
    """Range of the share of the throughput at the largest batch; more than 1 must be refused."""
    cv: tuple[float, float] = (1.0, 4.0)
    """Range of the coefficient of variation of the gaps; 1 = Poisson (log-uniform)."""
    target: tuple[float, float] = (1.5, 6.0)
    """Range of the latency target over the time of the largest batch (log-uniform)."""
    gpus: int = 1

    def __post_init__(self) -> None:
        for name in ("functions", "requests", "max_batch"):
            value = getattr(self, name)
            require(value >= 1, f"problems.{name}", value, "an integer >= 1")
        require(self.gpus == 1, "problems.gpus", self.gpus, "1")
        require(len(self.models) > 0, "problems.models", self.models, " | ".join(MODELS))
        for name in ("load", "cv", "target"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high < np.inf:
                raise SpecError(f"problems.{name}", (low, high), "0 < low <= high")
        for model in self.models:
            service(model, self.gpu)

    def sample(self, rng: Rng) -> tuple[Cluster, Workload]:
        """Draw models, targets and traffic."""
        load = float(rng.uniform(*self.load))
        shares = rng.dirichlet(np.full(self.functions, 2.0))
        functions, rates = [], []
        for f in range(self.functions):
            alpha_s, beta_s = service(str(rng.choice(list(self.models))), self.gpu)
            full_s = alpha_s + beta_s * self.max_batch
            functions.append(
                Function(
                    f"f{f}", weights_gib=0.0, device_gib=1.0, alpha_s=alpha_s, beta_s=beta_s,
                    max_batch=self.max_batch, slo_s=full_s * between(rng, self.target),
                )
            )  # fmt: skip
            rates.append(load * float(shares[f]) * self.max_batch / full_s)
        horizon_s = self.requests / sum(rates)
        arrivals = [self._arrivals(rng, rate, horizon_s) for rate in rates]
        if not any(map(len, arrivals)):
            arrivals[0] = np.zeros(1)
        times_s = np.concatenate(arrivals)
        order = np.argsort(times_s, kind="stable")
        index = np.repeat(np.arange(self.functions, dtype=np.int32), [len(a) for a in arrivals])
        names = tuple(f.name for f in functions)
        node = Node((Gpu(float(self.functions), sharing="exclusive"),))
        first_bin_s = BIN_OF_TARGET * min(f.slo_s for f in functions)
        cluster = Cluster(node, tuple(functions), first_bin_s=first_bin_s, profile=self.gpu)
        workload = Workload(times_s[order], index[order], names, horizon_s, source="gamma gaps")
        return cluster, workload

    def _arrivals(self, rng: Rng, rate: float, horizon_s: float) -> np.ndarray:
        drawn = gamma(rng, rate, horizon_s, between(rng, self.cv))
        return drawn[within(drawn, horizon_s)]


def between(rng: Rng, bounds: tuple[float, float]) -> float:
    """Draw log-uniformly."""
    low, high = np.log(bounds)
    return float(np.exp(rng.uniform(low, high)))
