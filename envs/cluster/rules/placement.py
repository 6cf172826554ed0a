"""Placement: which GPU takes a new instance, among those with room; the least cost wins.

| rule | cost | source |
| --- | --- | --- |
| most_free | memory left free, negative | worst fit |
| first_fit | the GPU's number; memory left free, negative, once idle instances have to leave | \
first fit |
| best_fit | memory left free | best fit |
| soonest | estimated start-up time, by what the node holds and how long its disk link is busy | \
ServerlessLLM, OSDI 2024, section 6.1 |
| shared_bytes | what f would take there: less where its family is | Tetris, USENIX ATC 2022 |

Ties go to the GPU of lowest number.  Units: seconds, bytes.
"""

from __future__ import annotations

from stoker.envs.cluster.host_tier import copy_of
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.sharing import bytes_on
from stoker.envs.cluster.tables import THERE, gpu_at, link_at

MOST_FREE, FIRST_FIT, BEST_FIT, SOONEST, SHARED_BYTES = 0, 1, 2, 3, 4


@njit
def estimated_start_s(r, f, g):
    """Start-up time of f on GPU g: from its host copy, else behind the loads of disk or network.

    The loads ahead are taken to be as long as this one; a fair link is slower by their number.
    """
    n = gpu_at(r["gpu"], g)["node"]
    copy = copy_of(r, n, f)
    if copy["state"] == THERE:
        return copy["host_s"]
    link, seconds = link_at(r["link"], n), copy["disk_s"]
    if copy["disk"] != THERE:
        link, seconds = link_at(r["link"], 2 * r["nodes"] + r["gpus"] + n), copy["remote_s"]
    if link["fifo"]:
        ahead = max(link["active"] + link["queued"] + 1 - link["slots"], 0) / link["slots"]
    else:
        ahead = link["active"]
    return seconds * (1.0 + ahead)


@njit
def placement_cost(r, f, g, room):
    """What the placement rule says of GPU g, which has so many bytes for f."""
    if r["placement"] == SOONEST:
        return estimated_start_s(r, f, g)
    if r["placement"] == SHARED_BYTES:
        return float(bytes_on(r, f, g))
    if r["placement"] == BEST_FIT:
        return float(room)
    return -float(room)
