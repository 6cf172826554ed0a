"""The state of one function at a tick: its queue, its instances, its latency target.

Beside the traffic features of observe.py in every slot of the cluster view.  Units before scaling:
seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.gpu_class import times_on
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.observe import TINY, log_count
from stoker.envs.cluster.tables import f8_at, fn_at

STATE = (
    ("queued", "requests waiting: ln(1 + n) / 8"),
    ("ready_idle", "idle instances: ln(1 + n) / 4"),
    ("ready_busy", "busy instances: ln(1 + n) / 4"),
    ("starting", "instances that start up: ln(1 + n) / 4"),
    ("load_host", "start-up time from host memory over that from disk"),
    ("service", "service time of one request, s / (s + start-up time)"),
    ("waited", "mean wait of the requests since the last tick, w / (w + start-up time)"),
    ("target", "latency target, x / (x + start-up time); 1 without a target"),
    ("slack", "time left to the oldest request that waits, over the start-up time; 1 if none"),
)
"""Name and meaning of every column."""
S = len(STATE)


@njit
def _part(seconds, load):
    return seconds / (seconds + load)


@njit
def observe_state(r, f, t, row, first):
    """Fill the columns of function f from `first`; its books since the last tick are still open."""
    fn = fn_at(r["fn"], f)
    load = max(fn["load_disk_s"], TINY)
    times = times_on(r, f, 0)
    row[first] = log_count(fn["queued"], 8.0)
    row[first + 1] = log_count(fn["idle"], 4.0)
    row[first + 2] = log_count(fn["busy"], 4.0)
    row[first + 3] = log_count(fn["loading"], 4.0)
    row[first + 4] = fn["load_host_s"] / load
    row[first + 5] = _part(times["alpha_s"] + times["beta_s"], load)
    row[first + 6] = _part(fn["acc_wait_s"] / max(fn["acc_requests"], 1), load)
    row[first + 7] = _part(fn["slo_s"], load) if fn["slo_s"] < math.inf else 1.0
    row[first + 8] = 1.0
    if fn["queued"] > 0 and fn["slo_s"] < math.inf:
        due = f8_at(r["arrival"], fn["q_head"])["v"] + fn["slo_s"]
        row[first + 8] = (due - t) / load
