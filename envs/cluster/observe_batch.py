"""What a policy sees of a function whose batches it decides.

Shapes: K features.  Units: seconds; features are scaled by fixed constants.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.features import RATE_WINDOWS_S
from stoker.envs.cluster.gpu_class import times_on
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import NONE, f8_at, fn_at, gpu_at, inst_at, req_at

BOUND = 10.0
"""Observations are clipped at plus and minus this."""
PLACES = (1, 2, 4, 8, 16)
"""Places in the queue whose slack is observed."""
_ORDINALS = ("head", "2nd request", "4th request", "8th request", "16th request")
FEATURES = (
    ("due", "1 = a batch may start now"),
    ("queued", "requests that wait: ln(1 + n) / 4"),
    ("queue_share", "requests that wait, over the largest batch"),
    *(
        (f"slack_{n}", f"time to the deadline of the {name} over the target; 1 = there is none")
        for n, name in zip(PLACES, _ORDINALS, strict=True)
    ),
    ("hopeless", "requests at the head that would be late even alone: ln(1 + n) / 4"),
    ("service_one", "time of a batch of one over the target"),
    ("service_all", "time of a batch of all that wait, up to the largest, over the target"),
    ("service_most", "time of the largest batch over the target"),
    ("target", "latency target over the time of a batch of one: ln, / 4"),
    ("largest", "largest batch: ln, / 4"),
    ("rate_10s", "arrivals in the largest batch's time at the rate of 10 s: ln(1 + x) / 4"),
    ("rate_60s", "the same over 60 s"),
    ("rate_600s", "the same over 600 s"),
    ("rate_3600s", "the same over an hour"),
    ("since", "time since the last arrival over the target"),
    ("running", "requests in batches that run: ln(1 + n) / 4"),
    ("others", "requests of other functions that wait: ln(1 + n) / 8"),
    ("gpus_busy", "share of the GPUs that run a batch"),
)  # fmt: skip
"""Name and meaning of each column. Times of rates shrink with compressed time."""
K = len(FEATURES)
_PLACES = len(PLACES)


@njit
def _log_count(x, scale):
    return math.log(1.0 + x) / scale if x > 0 else 0.0


@njit
def _queue(r, fn, t, alone_s, row):
    """Fill the slacks, and the number of requests that are late already; see FEATURES."""
    slo = fn["slo_s"]
    for j in range(_PLACES):
        row[3 + j] = 1.0
    late, hopeless = True, 0
    q = fn["q_head"]
    for n in range(1, fn["queued"] + 1):
        left = f8_at(r["arrival"], q)["v"] + slo - t
        for j in range(_PLACES):
            if n == PLACES[j]:
                row[3 + j] = left / slo
        late = late and left < alone_s
        if late:
            hopeless = n
        elif n >= PLACES[_PLACES - 1]:
            break
        q = req_at(r["req"], q)["next"]
    row[3 + _PLACES] = _log_count(hopeless, 4.0)


@njit
def observe_batch(r, f, t, row):
    """Fill `row` (Shape: (K,)) with the features of function f at t."""
    fn = fn_at(r["fn"], f)
    slo, n, most = fn["slo_s"], fn["queued"], fn["max_batch"]
    i = fn["open_head"]
    times = times_on(r, f, 0 if i == NONE else inst_at(r["inst"], i)["gpu"])
    alpha, beta = times["alpha_s"], times["beta_s"]
    row[0] = 1.0 if fn["asked"] == 1 else 0.0
    row[1] = _log_count(n, 4.0)
    row[2] = n / most
    _queue(r, fn, t, alpha + beta, row)
    at = 4 + _PLACES
    row[at] = (alpha + beta) / slo
    row[at + 1] = (alpha + beta * min(n, most)) / slo if n > 0 else 0.0
    row[at + 2] = (alpha + beta * most) / slo
    row[at + 3] = math.log(slo / max(alpha + beta, 1e-9)) / 4.0
    row[at + 4] = math.log(most) / 4.0
    since = t - fn["last_arrival"]
    for k in range(4):
        window = RATE_WINDOWS_S[k] * r["first_bin"] / 3.0
        rate = fn["rate"][k] * math.exp(-since / window) if fn["arrivals"] > 0 else 0.0
        row[at + 5 + k] = _log_count(rate * (alpha + beta * most), 4.0)
    row[at + 9] = since / slo
    row[at + 10] = _log_count(fn["inflight"], 4.0)
    row[at + 11] = _log_count(r["queued"] - n, 8.0)
    busy = 0
    for g in range(r["gpus"]):
        busy += gpu_at(r["gpu"], g)["running"] > 0
    row[at + 12] = busy / r["gpus"]
    for j in range(K):
        row[j] = min(max(row[j], -BOUND), BOUND)
