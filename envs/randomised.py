"""Domain randomisation: every episode another cluster, other traffic, other mishaps.

What a policy is trained on should contain what it will meet: RANGES are those that the project
trains over (rates converted from the GB/s of vendors; times between failures and of repairs its own
choice). All is drawn from the generator that is passed in, cluster and traffic first.

Units: seconds, GiB/s, hours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.faults import FaultRates, Faults, draw
from stoker.envs.cluster.spec import Cluster, Function, Link, Objective
from stoker.envs.problems import Rng
from stoker.envs.workload import Workload, generate, memory_ratio, to_gpu

GB = 1e9 / 2**30
"""GiB in a GB."""
Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """From where to where each figure of an episode is drawn.

    Raises:
        SpecError: a range is empty, or has no logarithm where it needs one.
    """

    pcie_gib_s: Range = (8.0 * GB, 55.0 * GB)
    """Log-uniform, as all rates and times."""
    ssd_gib_s: Range = (1.0 * GB, 7.0 * GB)
    """Of the disk link, for one half of the episodes..."""
    network_gib_s: Range = (0.5 * GB, 12.0 * GB)
    """...and for the other half, whose weights lie in a store."""
    load_sigma: Range = (0.05, 0.4)
    """Of the lognormal noise of start-up times. Uniform, as all below but the times."""
    batch_factor: Range = (0.7, 1.3)
    """On alpha_s and on beta_s, each function and each of the two by itself."""
    zipf: Range = (0.7, 1.3)
    gamma_cv: Range = (0.5, 8.0)
    peak_h: Range = (0.0, 24.0)
    """Hour of the day's peak, from the start."""
    ratio: Range = (0.25, 1.0)
    """Device memory over the footprint of a keep-alive of an hour."""
    telemetry_delay_ticks: Range = (0.0, 2.0)
    telemetry_loss: Range = (0.0, 0.01)
    failure_every_s: Range = (4.0 * 3600.0, 48.0 * 3600.0)
    """Of a node."""
    repair_s: Range = (60.0, 1800.0)

    def __post_init__(self) -> None:
        for f in fields(self):
            low, high = getattr(self, f.name)
            logarithmic = f.name.endswith(("gib_s", "every_s", "repair_s", "factor", "cv", "ratio"))
            least = low > 0.0 if logarithmic else low >= 0.0
            good = least and low <= high < math.inf
            require(good, f"ranges.{f.name}", (low, high), "low <= high, finite, > 0 where a rate")


RANGES = Ranges()


@dataclass(frozen=True)
class RandomisedProblems:
    """Synthetic traffic on a pool of equal GPUs, all figures drawn from `ranges`.

    `sample` gives the cluster and its traffic, for the environments; `sample_with_faults` what goes
    wrong as well, for `simulate(cluster, workload, policy, faults=[faults])`.
    """

    functions: int = 64
    hours: float = 4.0
    requests_per_s: float = 0.5
    gpus: int = 1
    ranges: Ranges = RANGES
    tick_s: float = 60.0
    """Of the policy: what a tick of telemetry delay is."""
    objective: Objective = Objective(wait_usd_s=0.01, load_usd_s=0.0025)

    def __post_init__(self) -> None:
        for name in ("functions", "gpus"):
            require(getattr(self, name) >= 1, f"problems.{name}", getattr(self, name), ">= 1")
        for name in ("hours", "requests_per_s", "tick_s"):
            value = getattr(self, name)
            require(0.0 < value < math.inf, f"problems.{name}", value, "finite, > 0")

    def sample(self, rng: Rng) -> tuple[Cluster, Workload]:
        """Draw traffic, functions and a cluster."""
        ranges = self.ranges
        workload = generate(
            rng,
            functions=self.functions,
            hours=self.hours,
            requests_per_s=self.requests_per_s,
            zipf=rng.uniform(*ranges.zipf),
            gamma_cv=rng.uniform(*ranges.gamma_cv),
            diurnal_peak_h=rng.uniform(*ranges.peak_h),
        )
        functions, workload = _other_speeds(
            to_gpu.lognormal(workload, rng), workload, rng, ranges.batch_factor
        )
        ratio = rng.uniform(*ranges.ratio)
        largest_gib = max(f.device_gib for f in functions)
        each_gib = max(memory_ratio(workload, functions, ratio) / self.gpus, largest_gib)
        stored = rng.random() < 0.5
        disk = _log_uniform(rng, ranges.network_gib_s if stored else ranges.ssd_gib_s)
        pool = to_gpu.node(each_gib * self.gpus, gpus=self.gpus, disk=Link(disk))
        node = replace(pool, pcie=Link(_log_uniform(rng, ranges.pcie_gib_s)))
        profile = f"{to_gpu.profile('lognormal')}, randomised, memory ratio {ratio:.3g}"
        return Cluster(node, functions, self.objective, profile=profile), workload

    def sample_with_faults(self, rng: Rng) -> tuple[Cluster, Workload, Faults]:
        """Draw the same cluster and traffic as `sample`, and after them what goes wrong."""
        cluster, workload = self.sample(rng)
        ranges = self.ranges
        delay_s = self.tick_s * rng.uniform(*ranges.telemetry_delay_ticks)
        rates = FaultRates(
            failure_every_s=_log_uniform(rng, ranges.failure_every_s),
            repair_s=_log_uniform(rng, ranges.repair_s),
            load_sigma=rng.uniform(*ranges.load_sigma),
            telemetry_delay_s=(delay_s, delay_s),
            telemetry_loss=rng.uniform(*ranges.telemetry_loss),
        )
        return cluster, workload, draw(rng, cluster, workload.horizon_s, rates)


def _log_uniform(rng: Rng, bounds: Range) -> float:
    low, high = bounds
    drawn = math.exp(rng.uniform(math.log(low), math.log(high)))
    return min(max(drawn, low), high)  # the rounding of exp may step over a bound


def _other_speeds(
    functions: tuple[Function, ...], workload: Workload, rng: Rng, bounds: Range
) -> tuple[tuple[Function, ...], Workload]:
    """Change alpha and beta of each function, and the service times of its requests with them."""
    alpha, beta = rng.uniform(*bounds, len(functions)), rng.uniform(*bounds, len(functions))
    changed = tuple(
        replace(
            f, alpha_s=f.alpha_s * a, beta_s=f.beta_s * b, batch_s=tuple(s * a for s in f.batch_s)
        )
        for f, a, b in zip(functions, alpha.tolist(), beta.tolist(), strict=True)
    )
    if workload.service_s is None:
        return changed, workload
    before = np.array([f.alpha_s + f.beta_s for f in functions])
    after = np.array([f.alpha_s + f.beta_s for f in changed])
    service_s = workload.service_s * (after / before)[workload.function]
    return changed, replace(workload, service_s=service_s)
