"""The fleet's loop: arrivals are routed, replicas end batches, load and leave, in order of time.

A replica's batch, or a stretch of iterations, is planned when it is formed and booked when it ends;
an arrival that may be let in, or another replica's claim to the device, ends a stretch with the
iteration under way. At one instant arrivals come first, then the replicas in their order: the order
of the single replica, to the byte.

Units: seconds.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.llm.engine import finish_batch, form, plan_batch
from stoker.envs.cluster.llm.fleet.cut import cut
from stoker.envs.cluster.llm.fleet.dispatch import arrive
from stoker.envs.cluster.llm.fleet.handover import accept, deliver, hand_over, take_landed
from stoker.envs.cluster.llm.fleet.inbox import take_inbox
from stoker.envs.cluster.llm.fleet.losses import at_next_loss, lose_or_repair
from stoker.envs.cluster.llm.fleet.memory import regrant
from stoker.envs.cluster.llm.fleet.migration import LEAVES, close, let_go, migrate
from stoker.envs.cluster.llm.fleet.routers.freeness import note_batch
from stoker.envs.cluster.llm.fleet.scaling import loaded, note_idle
from stoker.envs.cluster.llm.fleet.startup import leave, load_wanted
from stoker.envs.cluster.llm.fleet.tables import (
    BUSY,
    LOADING,
    device_at,
    f8_at,
    func_at,
    replica_at,
    row_at,
)
from stoker.envs.cluster.llm.fleet.token_migration import make_room, move_away
from stoker.envs.cluster.llm.fleet.turns import claim, has_work, next_in_turn, pass_on
from stoker.envs.cluster.llm.tables import NONE, req_at


@njit
def _form(f, k):
    """Form the next batch of a replica whose turn it is and plan it; or let it idle.

    Returns who has the device next, NONE if the replica keeps it or nobody waits.
    """
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    r["now"] = f["now"]
    take_inbox(p, r)
    take_landed(r, p)
    refused = r["rejected"]
    form(r)
    while r["members"] == 0 and r["preempted"] > 0:
        if f["counts_demand"]:
            note_batch(f, k)
        # Who lost its memory may have left a place.
        take_landed(r, p)
        form(r)
    f["open"] -= r["rejected"] - refused
    if r["members"] == 0:
        note_idle(f, k)
        return NONE if p["device"] == NONE else next_in_turn(f, p["device"])
    if f["counts_demand"]:
        note_batch(f, k)
    p["state"], p["start"] = BUSY, f["now"]
    p["steps"], p["total_s"], p["first_s"], p["last_s"] = plan_batch(r)
    f8_at(f["next_s"], k)["v"] = p["start"] + p["total_s"]
    if p["device"] != NONE and device_at(f["device"], p["device"])["head"] != NONE:
        cut(f, k)
    return NONE


@njit
def _compute(f, k):
    """Give a replica its turn; if it has nothing to do, the next."""
    while k != NONE:
        k = _form(f, k)


@njit
def _go_on(f, k):
    """Form the next batch of a replica if its device is free, else wait for a turn."""
    if claim(f, k):
        _compute(f, k)


@njit
def _end(f, k):
    """Book the batch that a replica has run, and go on."""
    p, r = replica_at(f["replica"], k), row_at(f["rows"], k)
    done, refused = r["done"], r["rejected"]
    finish_batch(r, p["start"], p["steps"], p["total_s"], p["first_s"], p["last_s"])
    f["open"] -= r["done"] - done + r["rejected"] - refused
    p["busy_s"] += p["total_s"]
    p["used"] = f["now"]
    fn = func_at(f["func"], p["function"])
    if fn["decoders"] > 0 and k < fn["first"] + fn["count"]:
        hand_over(f, k)
    elif fn["phase"] == LEAVES and fn["source"] == k:
        let_go(f, p["function"])
    if p["goes_to"] != NONE:
        move_away(f, k)
    _compute(f, k if p["device"] == NONE else pass_on(f, k))
    if fn["decoders"] > 0:
        # What ended, or was let in again, may have made room.
        accept(f, p["function"])


@njit
def _step(f, k):
    """The next event of a replica, a link or migration, or a loss."""
    if k >= f["replicas"] + f["functions"]:
        lose_or_repair(f)
        return
    if k >= f["replicas"]:
        function = k - f["replicas"]
        if func_at(f["func"], function)["decoders"] > 0:
            deliver(f, function)
        else:
            migrate(f, function)
        return
    p = replica_at(f["replica"], k)
    if p["state"] == BUSY:
        _end(f, k)
    elif p["state"] == LOADING:
        loaded(f, k)
        _go_on(f, k)
        if func_at(f["func"], p["function"])["decoders"] > 0:
            accept(f, p["function"])
    elif p["landed"] != NONE or has_work(f, k):
        _go_on(f, k)
    else:
        leave(f, k)
    if p["device"] != NONE:
        # Blocks may have been given back, or a replica gone idle.
        load_wanted(f, p["device"])
        make_room(f, p["device"])


@njit
def _soonest(f):
    """Whose event is next, the first of equals."""
    best, at = 0, math.inf
    for k in range(f["slots"]):
        v = f8_at(f["next_s"], k)["v"]
        if v < at:
            best, at = k, v
    return best, at


@njit
def _run(f):
    """Go from event to event until every request is done."""
    k, at = _soonest(f)
    while f["next_req"] < f["reqs"] or f["open"] > 0:
        if f["next_req"] < f["reqs"] and req_at(f["req"], f["next_req"])["arrival"] <= at:
            arrive(f)
        elif at == math.inf:
            return
        else:
            f["now"] = at
            _step(f, k)
        k, at = _soonest(f)


@njit
def serve_fleet(f):
    """Serve every request of one fleet."""
    for device in range(f["devices"]):
        regrant(f, device)
    if f["losses"] > 0:
        f8_at(f["next_s"], f["slots"] - 1)["v"] = at_next_loss(f)
    _run(f)
    for function in range(f["functions"]):
        close(f, function, func_at(f["func"], function)["phase"])


@entry
def serve_fleets(fleets):
    """Serve every request of every fleet."""
    for k in range(fleets.shape[0]):
        serve_fleet(fleets[k])
