"""Replicas that are lost, with all that they hold, and repaired.

Rule: the iteration under way is lost, and keys and values; tokens put out are not. Requests go to
the other replicas of the function as if they came now, and compute what they had again; where every
other one is lost they fail. So do those whose prompt is done where all that decode are lost. What
moves to the replica stays where it is, what moves from it begins again. A lost replica gets no
requests. When it is repaired it loads, or may be started where replicas come on arrival.

At one instant what replicas do comes first.  Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.engine import finish_batch
from stoker.envs.cluster.llm.fleet.dispatch import redirect
from stoker.envs.cluster.llm.fleet.evacuate import evacuate
from stoker.envs.cluster.llm.fleet.handover import accept, recall
from stoker.envs.cluster.llm.fleet.migration import abandon
from stoker.envs.cluster.llm.fleet.scaling import ready
from stoker.envs.cluster.llm.fleet.startup import load
from stoker.envs.cluster.llm.fleet.tables import (
    BUSY,
    DOWN,
    LOADING,
    LOST,
    f8_at,
    func_at,
    loss_at,
    replica_at,
    row_at,
)
from stoker.envs.cluster.llm.queues import push_front
from stoker.envs.cluster.llm.stretch import ended_by
from stoker.envs.cluster.llm.tables import FASTSERVE, member_at, place_at


@njit
def _disband(r):
    """Put the members of a batch that has not ended back."""
    for i in range(r["members"]):
        q = member_at(r["batch"], i)["q"]
        if r["scheduler"] == FASTSERVE:
            push_front(r, q)
        else:
            place_at(r["run"], r["running"])["q"] = q
            r["running"] += 1


@njit
def _stop(f, k):
    """Book the iterations of a stretch that have ended; the one under way has not been."""
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    span_s = f["now"] - p["start"]
    p["busy_s"] += span_s
    steps, total_s, first_s, last_s = ended_by(r, p["steps"], span_s)
    if steps > 0:
        finish_batch(r, p["start"], steps, total_s, first_s, last_s)
    else:
        _disband(r)


@njit
def _lose(f, k):
    """Lose a replica."""
    p = replica_at(f["replica"], k)
    fn = func_at(f["func"], p["function"])
    if fn["every_s"] > 0.0:
        abandon(f, fn, p["function"], k)
    if fn["decoders"] > 0:
        recall(f, p["function"], k)
    if p["state"] == BUSY:
        _stop(f, k)
    evacuate(f, k)
    since_s = f["now"] - p["since"]
    if p["state"] == LOADING:
        p["loading_s"] += since_s
    if p["state"] == LOADING or ready(p):
        p["up_s"] += since_s
    p["state"] = LOST
    f8_at(f["next_s"], k)["v"] = math.inf
    redirect(f)
    if fn["decoders"] > 0:
        accept(f, p["function"])


@njit
def _repair(f, k):
    """A lost replica is there again, without weights."""
    p = replica_at(f["replica"], k)
    p["state"] = DOWN
    if not func_at(f["func"], p["function"])["on_arrival"]:
        load(f, k)


@njit
def at_next_loss(f):
    """When a replica is lost or repaired next."""
    if f["next_loss"] == f["losses"]:
        return math.inf
    return loss_at(f["loss"], f["next_loss"])["at"]


@njit
def lose_or_repair(f):
    """Lose or repair the next replica of which that is known."""
    loss = loss_at(f["loss"], f["next_loss"])
    f["next_loss"] += 1
    if loss["ends"]:
        _repair(f, loss["replica"])
    else:
        _lose(f, loss["replica"])
    f8_at(f["next_s"], f["slots"] - 1)["v"] = at_next_loss(f)
