"""Drift: popularity turns over in mid-episode, the most popular function becomes the rarest.

The traffic of `synthetic.generate`; from a given time on function k gets the requests of function
F - 1 - k, from the next time on its own again, and so on. Service times stay with the functions.

Shapes: N requests, F functions.  Units: seconds, requests per second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stoker.envs.cluster.errors import require
from stoker.envs.workload import marginals, synthetic
from stoker.envs.workload.flash_crowd import AT
from stoker.envs.workload.workload import Workload


def generate(
    rng: np.random.Generator,
    *,
    functions: int = 100,
    hours: float = 2.0,
    requests_per_s: float = 2.0,
    zipf: float = 1.0,
    at: Sequence[float] = AT,
    service_range_s: tuple[float, float] = (0.05, 20.0),
) -> Workload:
    """Draw traffic whose popularity turns over.

    Args:
        rng: the only source of randomness.
        functions: number of functions.
        hours: length.
        requests_per_s: mean rate of all functions together.
        zipf: exponent of popularity.
        at: when it turns over, as shares of the length, ascending.
        service_range_s: range that service times (one a function) are clipped to.

    Raises:
        SpecError: names the argument.
    """
    good = all(0.0 <= t < 1.0 for t in at) and list(at) == sorted(at)
    require(good, "at", tuple(at), "ascending shares of the length, in 0..1")
    base = synthetic.generate(
        rng, functions=functions, hours=hours, requests_per_s=requests_per_s, zipf=zipf
    )
    turns = np.searchsorted(np.array(at) * base.horizon_s, base.arrival_s, "right")
    function = np.where(turns % 2 == 1, functions - 1 - base.function, base.function)
    function = function.astype(np.int32)
    service_s = marginals.durations_s(rng, functions, *service_range_s)[function]
    source = f"{base.source}; popularity turns over at {', '.join(f'{t:g}' for t in at)}"
    return replace(base, function=function, service_s=service_s, source=source)
