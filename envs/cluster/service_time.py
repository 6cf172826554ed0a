"""How long a batch takes.  Units: seconds."""

from __future__ import annotations

from stoker.envs.cluster.gpu_class import times_on
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import f8_at, fn_at, inst_at, req_at


@njit
def _service_s(r, i, head, n):
    """Service time of a batch of n whose first request is `head`."""
    inst = inst_at(r["inst"], i)
    times = times_on(r, inst["fn"], inst["gpu"])
    if r["cold_service"] != 0 and inst["bound"] == head:
        return f8_at(r["cold_service"], head)["v"]
    if r["service"] == 0:
        if n <= r["curve_n"]:
            measured = f8_at(r["curve"], inst["fn"] * r["curve_n"] + n - 1)["v"]
            if measured >= 0.0:
                return measured
        return times["alpha_s"] + times["beta_s"] * n
    longest = 0.0
    q = head
    for _ in range(n):
        longest = max(longest, f8_at(r["service"], q)["v"])
        q = req_at(r["req"], q)["next"]
    return longest + times["beta_s"] * (n - 1)


@njit
def takes_s(r, i, head, n, t):
    """Service time of a batch that begins at t: what ran while the instance loaded is done."""
    seconds = _service_s(r, i, head, n)
    if r["service_noise"] != 0:
        seconds *= f8_at(r["service_noise"], head)["v"]
    inst = inst_at(r["inst"], i)
    if t == inst["ready_t"] and inst["inflight"] == 1:
        seconds = max(seconds - fn_at(r["fn"], inst["fn"])["overlap_s"], 0.0)
    return seconds
