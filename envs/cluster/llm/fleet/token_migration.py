"""Requests leave a shared device as tokens, so that a replica which starts there need not wait.

Rule: where a replica is to start and finds no memory, one that computes there hands all its
requests to another of its function on another device, and leaves. What it gives up must suffice;
the other must have places, nobody waiting, and as many blocks free above the watermark. The one
with fewest tokens goes, to where most blocks are free. It hands over at the end of the iteration
under way: the tokens cross, which takes no time, and the other computes their keys and values anew.

Source: Fu et al., "ServerlessLLM: low-latency serverless inference for large language models",
OSDI 2024, section 5; ServerlessLLM 9f50241b. There a request runs on at the source while the tokens
it had are computed at the target, in rounds, until few are left; here it stops for all of them.

Units: blocks, bytes of one GPU.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.fleet.cut import cut
from stoker.envs.cluster.llm.fleet.evacuate import evacuate
from stoker.envs.cluster.llm.fleet.inbox import hand
from stoker.envs.cluster.llm.fleet.memory import excess_bytes, free_blocks, resident_bytes
from stoker.envs.cluster.llm.fleet.routers.least_outstanding import outstanding
from stoker.envs.cluster.llm.fleet.scaling import ready
from stoker.envs.cluster.llm.fleet.tables import (
    BUSY,
    QUEUED,
    WANTED,
    device_at,
    func_at,
    replica_at,
    row_at,
)
from stoker.envs.cluster.llm.tables import NONE, req_at


@njit
def _first_wanted(f, device):
    """The first replica that waits for memory of a device, where nobody is about to leave."""
    first = NONE
    for k in range(f["replicas"]):
        p = replica_at(f["replica"], k)
        if p["device"] == device:
            if p["goes_to"] != NONE:
                return NONE
            if p["state"] == WANTED and first == NONE:
                first = k
    return first


@njit
def _held_blocks(f, k):
    return row_at(f["rows"], k)["num_blocks"] - free_blocks(f, k)


@njit
def _target(f, k):
    """Where the requests of k can go: most blocks free; NONE if nowhere."""
    p = replica_at(f["replica"], k)
    fn = func_at(f["func"], p["function"])
    best, most = NONE, _held_blocks(f, k) - 1
    for j in range(fn["first"], fn["first"] + fn["count"]):
        other, r = replica_at(f["replica"], j), row_at(f["rows"], j)
        if other["device"] == p["device"] or not ready(other):
            continue
        places = outstanding(f, j) + outstanding(f, k) <= r["max_batch"]
        left = free_blocks(f, j) - r["watermark"]
        if places and r["waiting"] == 0 and other["inbox"] == NONE and left > most:
            best, most = j, left
    return best


@njit
def make_room(f, device):
    """Let a replica leave a device, if one waits for its memory and others can do its work."""
    if not f["moves_tokens"] or device_at(f["device"], device)["wanted"] == 0:
        return
    k = _first_wanted(f, device)
    if k == NONE:
        return
    excess = excess_bytes(f, k, True)
    best, least = NONE, 2**62
    for j in range(f["replicas"]):
        p = replica_at(f["replica"], j)
        if p["device"] == device and (p["state"] == BUSY or p["state"] == QUEUED):
            tokens = _held_blocks(f, j) * row_at(f["rows"], j)["block_size"]
            if tokens < least and resident_bytes(f, j) >= excess and _target(f, j) != NONE:
                best, least = j, tokens
    if best == NONE:
        return
    replica_at(f["replica"], best)["goes_to"] = _target(f, best)
    if replica_at(f["replica"], best)["state"] == BUSY:
        cut(f, best)
    else:
        move_away(f, best)


@njit
def move_away(f, k):
    """Hand all requests of a replica between two batches to where they go."""
    p = replica_at(f["replica"], k)
    target = p["goes_to"]
    p["goes_to"] = NONE
    if not ready(replica_at(f["replica"], target)):
        return
    evacuate(f, k)
    fn = func_at(f["func"], p["function"])
    while f["astray"] != NONE:
        q = f["astray"]
        f["astray"] = req_at(f["req"], q)["next"]
        hand(f, target, q)
        fn["moved"] += 1
