"""Diffusion: image requests to many fine-tunes, as on a serverless platform for them.

Each function's gaps are lognormal with a sigma of SIGMA, the median over 34 base models of the
Alibaba GenAI trace of 2026; service times are those of a pipeline's inference there, drawn for each
request.

Shapes: N requests, F functions.  Units: seconds, requests per second.
"""

from __future__ import annotations

import numpy as np

from stoker.envs.workload import marginals, processes, synthetic
from stoker.envs.workload.workload import Workload

SIGMA = 2.502
"""Of the logarithm of a gap: the mean gap is 23 times the median one."""


def generate(
    rng: np.random.Generator,
    *,
    functions: int = 50,
    hours: float = 8.0,
    requests_per_s: float = 0.5,
    zipf: float = 1.0,
) -> Workload:
    """Draw the requests of many diffusion models.

    Args:
        rng: the only source of randomness.
        functions: number of models, the most popular first.
        hours: length.
        requests_per_s: mean rate of all models together.
        zipf: exponent of popularity.

    Raises:
        SpecError: names the argument.
    """
    synthetic.check_common(functions, hours, requests_per_s, zipf)
    horizon_s = hours * 3600.0
    rates = synthetic.zipf_rates(functions, requests_per_s, zipf)
    drawn = [processes.lognormal(rng, rate, horizon_s, SIGMA) for rate in rates.tolist()]
    owner = np.arange(functions, dtype=np.int32).repeat([len(times) for times in drawn])
    arrival_s, function = synthetic.ordered(drawn, [owner], horizon_s)
    inference = marginals.LATENCIES_S["pipeline_inference"]
    service_s = marginals.latencies_s(rng, inference, len(arrival_s))
    source = f"{synthetic.VERSION} diffusion; {functions} models, {hours:g} h, {requests_per_s:g}/s"
    names = synthetic.names(functions)
    return Workload(arrival_s, function, names, horizon_s, service_s, source=source)
