"""Which copy leaves a full host memory: the one of least key that no load reads.

| rule | key | source |
| --- | --- | --- |
| lru | when the copy was complete | - |
| greedy_dual | clock + uses x time saved / size; the clock becomes the victim's key | FaasCache, \
ASPLOS 2021, section 4, a tier lower |
| score | `Decision.host_eviction_score` | learned policies |

Time saved: by a start-up from the host instead of from where the weights lie below it. Uses: those
of the instances that have left the device to this host since the weights last lay below it.

Units: seconds, GiB.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import THERE, fn_at, nf_at, node_at

HOST_LRU, HOST_GREEDY_DUAL, HOST_SCORE = 0, 1, 2


@njit
def host_key(r, n, f):
    """Key of f's copy in the host memory of node n, which is complete now."""
    fn, copy = fn_at(r["fn"], f), nf_at(r["nf"], n * r["fns"] + f)
    if r["host_eviction"] == HOST_SCORE:
        return fn["host_eviction_score"]
    if r["host_eviction"] == HOST_LRU:
        return copy["since"]
    below_s = copy["disk_s"] if copy["disk"] == THERE else copy["remote_s"]
    worth = max(copy["uses"], 1.0) * max(below_s - copy["host_s"], 0.0) / fn["weights_gib"]
    return node_at(r["node"], n)["host_clock"] + worth
