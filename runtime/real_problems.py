"""What an episode on real models consists of: functions over a few models, memory, traffic.

Time is compressed until gaps stand to this machine's loads as they do to a GPU's.

Units: seconds, bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.spec import Cluster, Objective
from stoker.envs.levers.scene import FIRST_BIN_S
from stoker.envs.workload import Workload
from stoker.envs.workload.processes import gamma, within
from stoker.runtime.calibrate import calibrate
from stoker.runtime.catalog import Deployment, Model, deploy
from stoker.runtime.profile import profile_cluster
from stoker.runtime.training import train_demo_models

TYPICAL_LOAD_S = 4.0
"""Start-up of a model of 8 GiB on a GPU."""
SLACK_S = 5.0
"""At uncompressed time: a request is in time within its service time and this."""
PRICE_USD_H = 3.431
"""Of the device: an A100's."""
MODELS = Path("runs/demo/models")
"""Where the demo's models lie, or will."""


@dataclass(frozen=True)
class RealProblems:
    """Functions that share one device of this machine.

    Args:
        models: that serve the functions in turn.
        profile: of `stoker calibrate`, which knows them.
        functions: how many.
        seconds: length of an episode, of this machine's time.
        requests_per_s: over all functions.
        ratio: device memory over that of all functions; as much again on the host.
        cv: coefficient of variation of the gaps of each function.
    """

    models: tuple[Model, ...]
    profile: Mapping[str, Any]
    functions: int = 6
    seconds: float = 20.0
    requests_per_s: float = 6.0
    ratio: float = 0.5
    cv: float = 2.0

    def __post_init__(self) -> None:
        require(self.functions >= 1, "problems.functions", self.functions, "an integer >= 1")
        for name in ("seconds", "requests_per_s", "ratio", "cv"):
            require(getattr(self, name) > 0.0, f"problems.{name}", getattr(self, name), "> 0")

    @classmethod
    def here(cls, device: str = "cpu", **options: Any) -> RealProblems:
        """Train the demo's small models, if they are not there, and measure this machine."""
        models = train_demo_models(MODELS)
        return cls(models, calibrate(models, device=device), **options)

    @cached_property
    def deployments(self) -> tuple[Deployment, ...]:
        """Which model serves each function."""
        return deploy(self.models, self.functions)

    @cached_property
    def cluster(self) -> Cluster:
        """This machine."""
        entries = [self.profile["models"][model.name] for model in self.models]
        loads_s = [e["load_s"]["disk"]["p50"] + e["order_s"]["p50"] for e in entries]
        factor = float(np.mean(loads_s)) / TYPICAL_LOAD_S
        sizes = [d.device_bytes for d in self.deployments]
        room = max(round(self.ratio * sum(sizes)), max(sizes))
        slowest = max(e["alpha_s"] + e["beta_s"] for e in entries)
        return profile_cluster(
            self.profile, self.deployments, device_bytes=[room], host_bytes=room,
            price_usd_h=PRICE_USD_H, slo_s=slowest + SLACK_S * factor,
            objective=Objective(wait_usd_s=0.01, load_usd_s=0.0025),
            first_bin_s=FIRST_BIN_S * factor,
        )  # fmt: skip

    def traffic(self, rng: np.random.Generator) -> Workload:
        """Draw the requests of an episode: some functions are far more popular than others."""
        share = rng.permutation(1.0 / np.arange(1, self.functions + 1))
        rates = self.requests_per_s * share / share.sum()
        drawn = [gamma(rng, float(rate), self.seconds, self.cv) for rate in rates]
        arrivals = [times[within(times, self.seconds)] for times in drawn]
        arrival_s = np.concatenate(arrivals)
        function = np.repeat(np.arange(self.functions, dtype=np.int32), list(map(len, arrivals)))
        order = np.argsort(arrival_s, kind="stable")
        names = tuple(d.function for d in self.deployments)
        return Workload(arrival_s[order], function[order], names, self.seconds, source="gamma gaps")
