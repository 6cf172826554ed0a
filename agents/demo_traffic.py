"""The demo's traffic: a public trace where it lies on this machine, else drawn; split and sped up.

The busiest functions are left out, as they would never be idle and one small device could not
serve a hundred times their rate; so are those that are hardly called.

Units: seconds; requests an hour at the traced speed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stoker.envs import workload as traffic
from stoker.envs.workload import Workload, azure_functions

TRACE = "azure_functions_2019_sample"
LEAST_HOURLY, MOST_HOURLY = 1.0, 30.0
MOST_A_MINUTE = 4
EDGES = (0.0, 0.4, 0.5, 1.0)
SHARES = (0.5, 0.15, 0.35)


@dataclass(frozen=True)
class Traffic:
    """Compressed traffic whose parts share neither functions nor hours."""

    name: str
    """Which trace, in a few words."""
    real: bool
    train: Workload
    validation: Workload
    test: Workload


def demo_traffic(compression: float, rng: np.random.Generator, quick: bool = False) -> Traffic:
    """Load or draw the traffic, keep the functions of moderate rate, split it and compress it."""
    found = None if quick else traffic.locate(TRACE)
    if found is None:
        hours = 6.0 if quick else 24.0
        count = 120 if quick else 600
        whole = traffic.generate(rng, functions=count, hours=hours, requests_per_s=count / 400.0)
        why = "quick run" if quick else f"no {TRACE} on this machine"
        name = f"synthetic, the fitted generator ({why})"
    else:
        whole = azure_functions.load(found, rng=rng, max_per_minute=MOST_A_MINUTE)
        name = "Azure Functions 2019, a day of 1,250 sampled functions"
    hourly = np.bincount(whole.function, minlength=len(whole.names)) / (whole.horizon_s / 3600.0)
    kept = np.flatnonzero((hourly >= LEAST_HOURLY) & (hourly <= MOST_HOURLY))
    # The models here take their own time, not that of the trace's programs.
    whole = replace(whole.select(kept), service_s=None)
    edges_s = tuple(edge * whole.horizon_s for edge in EDGES)
    parts = traffic.split(whole, rng, function_shares=SHARES, edges_s=edges_s)  # type: ignore[arg-type]
    train, validation, test = (
        part.compress(compression) for part in (parts.train, parts.validation, parts.test)
    )
    return Traffic(name, found is not None, train, validation, test)
