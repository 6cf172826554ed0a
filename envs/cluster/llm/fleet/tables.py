"""The fleet engine's state: one record a fleet, with pointers to its tables of records.

All replicas share one table of requests; a replica's own tables (queues, running list, batch) are
those of the replica engine.

Shapes: N requests, R replicas, F functions, D devices.  Units: seconds, blocks, bytes of one GPU.
"""

from __future__ import annotations

import numpy as np

from stoker.envs.cluster.llm.tables import ROW
from stoker.envs.cluster.tables import F8
from stoker.envs.cluster.tables import _reference as reference

ROUND_ROBIN, LEAST_OUTSTANDING, FREENESS = range(3)
"""Routers."""
LOST, DOWN, WANTED, LOADING, IDLE, QUEUED, BUSY = range(7)
"""States of a replica; requests are routed to it from WANTED on, which has them but no memory yet.
QUEUED waits for its turn on a device that another replica computes on."""

REPLICA = np.dtype(
    [
        ("function", "i8"), ("state", "i8"), ("device", "i8"), ("gpus", "i8"),
        # handed to it and not yet looked at, linked through the requests' `next`
        ("inbox", "i8"), ("inbox_tail", "i8"), ("handed", "i8"), ("demand", "i8"),
        # requests that arrived with their keys and values
        ("landed", "i8"), ("landed_tail", "i8"),
        # what it runs
        ("steps", "i8"), ("start", "f8"), ("total_s", "f8"), ("first_s", "f8"), ("last_s", "f8"),
        # start-up, leaving, and the time spent so far
        ("load_s", "f8"), ("keep_s", "f8"), ("since", "f8"), ("used", "f8"),
        ("up_s", "f8"), ("loading_s", "f8"), ("busy_s", "f8"), ("cold_starts", "i8"),
        # memory of a shared device
        ("weight_bytes", "f8"), ("block_bytes", "f8"), ("least_blocks", "i8"), ("floor", "f8"),
        ("fixed", "i8"), ("margin", "f8"), ("peak_blocks", "i8"), ("behind", "i8"),
        ("goes_to", "i8"),
    ],
    align=True,
)  # fmt: skip
"""A replica beside its row. `demand`: blocks that its waiting requests will start with, kept for
router freeness. `used`: when it last ended a batch. `behind`: who computes after it.
`goes_to`: who gets its requests when its iteration ends, so that it can leave."""
FUNC = np.dtype(
    [
        ("first", "i8"), ("count", "i8"), ("turn", "i8"), ("scale_at", "i8"),
        # prompts and decodes apart: replicas that decode, requests that wait to be sent to them,
        # and those that the link carries, in order
        ("decoders", "i8"), ("ready", "i8"), ("ready_tail", "i8"), ("sent", "i8"),
        ("sent_tail", "i8"), ("token_s", "f8"), ("link_s", "f8"), ("transfers", "i8"),
        # migration of running requests: one at a time, in phases
        ("every_s", "f8"), ("below", "f8"), ("phase", "i8"), ("moving", "i8"),
        ("source", "i8"), ("target", "i8"), ("reserved", "i8"), ("copied", "i8"), ("stages", "i8"),
        ("restarts", "i8"), ("migrations", "i8"), ("aborted", "i8"),
        # requests that left a device as tokens; whether replicas come on arrival
        ("moved", "i8"), ("on_arrival", "i8"),
    ],
    align=True,
)  # fmt: skip
"""A function: its replicas are `count` from `first` on, and behind them those that only decode.
`token_s`: time of the link for a token's keys and values; `link_s`: when all it has is carried."""
DEVICE = np.dtype(
    [
        ("budget", "f8"), ("most", "f8"), ("wanted", "i8"), ("holder", "i8"), ("head", "i8"),
        ("tail", "i8"), ("evictions", "i8"), ("refusals", "i8"),
    ],
    align=True,
)  # fmt: skip
"""A device that replicas share. `most`: most bytes granted at a time, weights and blocks."""
ROUTE = np.dtype(
    [
        ("function", "i4"),
        ("replica", "i4"),
        ("cold", "i4"),
        ("decoder", "i4"),
        ("failed", "i4"),
        ("due", "f8"),
    ],
    align=True,
)
"""Where a request goes; `cold`: its replica was not up when it came; where it decodes, if not
there, and when its keys and values are."""
LOSS = np.dtype([("at", "f8"), ("replica", "i8"), ("ends", "i8")], align=True)
"""A replica is lost, or the loss ends."""
FLEET = np.dtype(
    [
        ("rows", "i8"), ("replica", "i8"), ("next_s", "i8"), ("func", "i8"), ("device", "i8"),
        ("req", "i8"), ("route", "i8"), ("loss", "i8"),
        ("reqs", "i8"), ("replicas", "i8"), ("slots", "i8"), ("devices", "i8"),
        ("functions", "i8"), ("router", "i8"), ("counts_demand", "i8"),
        ("losses", "i8"), ("moves_tokens", "i8"),
        ("now", "f8"), ("next_req", "i8"), ("next_loss", "i8"), ("open", "i8"),
        # requests that lost their replica, linked through their `next`
        ("astray", "i8"), ("astray_tail", "i8"),
    ],
    align=True,
)  # fmt: skip
"""`open`: requests handed out and not yet done. `slots`: of events, one a replica; one a function
where any has a link or a migration; one for losses where there are any."""

row_at, replica_at, func_at = reference(ROW), reference(REPLICA), reference(FUNC)
device_at, route_at, f8_at = reference(DEVICE), reference(ROUTE), reference(F8)
loss_at = reference(LOSS)
