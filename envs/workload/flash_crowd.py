"""Flash crowds: now and then everybody asks for the same few functions, and the interest fades.

Below lies the traffic of `synthetic.generate`. At given times a share of the functions, drawn anew
each time, gets requests on top: a Poisson number of them, at exponential times after the beginning.

Shapes: N requests, F functions.  Units: seconds, requests per second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stoker.envs.cluster.errors import require
from stoker.envs.workload import marginals, synthetic
from stoker.envs.workload.workload import Workload

AT = (0.225, 0.525, 0.8)
"""Shares of the length: one within each part of `split` with its default edges."""


def generate(
    rng: np.random.Generator,
    *,
    functions: int = 100,
    hours: float = 2.0,
    requests_per_s: float = 2.0,
    zipf: float = 1.0,
    at: Sequence[float] = AT,
    share: float = 0.2,
    factor: float = 20.0,
    fade_s: float = 300.0,
    service_range_s: tuple[float, float] = (0.05, 20.0),
) -> Workload:
    """Draw traffic with flash crowds.

    Args:
        rng: the only source of randomness.
        functions: number of functions.
        hours: length.
        requests_per_s: mean rate of all functions together, without the crowds.
        zipf: exponent of popularity.
        at: when crowds come, as shares of the length.
        share: of the functions that a crowd asks for, at least one.
        factor: rate at its beginning of each of them, over the mean rate of a function.
        fade_s: mean time of a crowd's request after its beginning.
        service_range_s: range that service times (one a function) are clipped to.

    Raises:
        SpecError: names the argument.
    """
    good = all(0.0 <= t < 1.0 for t in at)
    require(good, "at", tuple(at), "shares of the length, in 0..1")
    require(0.0 < share <= 1.0, "share", share, "> 0, <= 1")
    for name, value in (("factor", factor), ("fade_s", fade_s)):
        require(math.isfinite(value) and value > 0.0, name, value, "finite, > 0")
    base = synthetic.generate(
        rng, functions=functions, hours=hours, requests_per_s=requests_per_s, zipf=zipf
    )
    crowd = max(round(share * functions), 1)
    each = factor * requests_per_s / functions * fade_s  # the integral of a rate that fades
    arrivals, owners = [base.arrival_s], [base.function]
    for moment in at:
        hit = rng.choice(functions, crowd, replace=False).astype(np.int32)
        owner = hit.repeat(rng.poisson(each, crowd))
        arrivals.append(moment * base.horizon_s + rng.exponential(fade_s, len(owner)))
        owners.append(owner)
    arrival_s, function = synthetic.ordered(arrivals, owners, base.horizon_s)
    service_s = marginals.durations_s(rng, functions, *service_range_s)[function]
    said = f"{len(at)} crowds on {crowd} functions, x{factor:g}, fading in {fade_s:g} s"
    source = f"{base.source}; {said}"
    return replace(base, arrival_s=arrival_s, function=function, service_s=service_s, source=source)
