"""Lists of instance slots through `prev` and `next`: a slot is in one of them at most.

Any record with `head` and `tail` can be a chain: loads on a link, layers on a node.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import NONE, inst_at


@njit
def append(r, chain, i):
    """Add slot i at the tail."""
    inst = inst_at(r["inst"], i)
    inst["prev"], inst["next"] = chain["tail"], NONE
    if chain["tail"] == NONE:
        chain["head"] = i
    else:
        inst_at(r["inst"], chain["tail"])["next"] = i
    chain["tail"] = i


@njit
def take_out(r, chain, i):
    """Take slot i out, wherever it is."""
    inst = inst_at(r["inst"], i)
    if inst["prev"] == NONE:
        chain["head"] = inst["next"]
    else:
        inst_at(r["inst"], inst["prev"])["next"] = inst["next"]
    if inst["next"] == NONE:
        chain["tail"] = inst["prev"]
    else:
        inst_at(r["inst"], inst["next"])["prev"] = inst["prev"]
