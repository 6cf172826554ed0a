"""Rare tail: nine functions in ten are called less than once an hour, and never all at once.

The first tenth of the functions has the traffic of `synthetic.generate`; each of the others is a
Poisson process at a rate that is log-uniform below a call an hour. (Of 1,250 Azure functions of
2019 38 % are called at most once an hour.)

Shapes: N requests, F functions.  Units: seconds, requests per second, calls an hour.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.envs.cluster.errors import require
from stoker.envs.workload import marginals, processes, synthetic
from stoker.envs.workload.workload import Workload

TAIL_HOURLY = (1.0 / 48.0, 1.0)


def generate(
    rng: np.random.Generator,
    *,
    functions: int = 100,
    hours: float = 24.0,
    requests_per_s: float = 2.0,
    zipf: float = 1.0,
    tail_share: float = 0.9,
    service_range_s: tuple[float, float] = (0.05, 20.0),
) -> Workload:
    """Draw traffic with a long tail.

    Args:
        rng: the only source of randomness.
        functions: number of functions, those of the tail last.
        hours: length.
        requests_per_s: mean rate of all functions outside the tail together.
        zipf: exponent of their popularity.
        tail_share: of the functions, in the tail; at least one function is outside of it.
        service_range_s: range that service times (one a function) are clipped to.

    Raises:
        SpecError: names the argument.
    """
    synthetic.check_common(functions, hours, requests_per_s, zipf)
    require(0.0 <= tail_share < 1.0, "tail_share", tail_share, ">= 0, < 1")
    tail = min(round(tail_share * functions), functions - 1)
    head = synthetic.generate(
        rng, functions=functions - tail, hours=hours, requests_per_s=requests_per_s, zipf=zipf
    )
    low, high = TAIL_HOURLY
    hourly = np.exp(rng.uniform(math.log(low), math.log(high), tail))
    drawn = [processes.poisson(rng, rate / 3600.0, head.horizon_s) for rate in hourly.tolist()]
    rare = np.arange(functions - tail, functions, dtype=np.int32)
    owner = rare.repeat([len(times) for times in drawn])
    arrival_s, function = synthetic.ordered(
        [head.arrival_s, *drawn], [head.function, owner], head.horizon_s
    )
    service_s = marginals.durations_s(rng, functions, *service_range_s)[function]
    names = synthetic.names(functions)
    source = f"{head.source}; {tail} further functions, each below {high:g} calls an hour"
    return Workload(arrival_s, function, names, head.horizon_s, service_s, source=source)
