"""A policy's orders on their way into the tables: made legal, room made for them, carried out.

Shapes: B rows, F functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.decision import (
    AS_ORDERED,
    PER_FUNCTION,
    Capabilities,
    Decision,
    legalize,
    legalize_nodes,
)
from stoker.envs.cluster.engine import RESERVE
from stoker.envs.cluster.layers import parkable_of
from stoker.envs.cluster.obey import obey_rows
from stoker.envs.cluster.spec import Cluster
from stoker.envs.cluster.state import State
from stoker.envs.cluster.target_table import fill_targets, legalize_targets

MOST_LOADS = 2**16
"""Most instances of one function that one order brings up at once; the rest is refused."""
PLANNED = ("keep_alive_s", "prewarm_after_s", "prewarm_keep_s")
"""Orders that the rule sets in the decision's place where `variant` lets it."""


def carry_out(
    decision: Decision, state: State, clusters: Sequence[Cluster], possible: Capabilities
) -> None:
    """Legalise standing orders of shape (B, F), count the clips and carry the orders out."""
    fn, rows = state.fn, state.rows
    legal, clipped = legalize(decision, possible, fn["batch_limit"])
    real = np.arange(fn.shape[1]) < rows["fns"][:, None]
    rows["clipped"] += (clipped * real).sum(axis=1)
    planned = _let_plan(legal, fn)
    for name in PER_FUNCTION:
        asked = getattr(legal, name)
        if asked is not None:
            fn[name] = np.where(planned, fn[name], asked) if name in PLANNED else asked
    _place(legal, state, clusters, possible)
    _make_room(state)
    obey_rows(rows)


def _let_plan(decision: Decision, fn: NDArray[Any]) -> NDArray[np.bool_]:
    """Functions whose idleness the rule plans, if the decision says so; the others' plans end.

    Shape: (B, F)
    """
    if decision.variant is None:
        return np.zeros(fn.shape, np.bool_)
    planned: NDArray[np.bool_] = decision.variant < AS_ORDERED
    ends = ~planned & (fn["variant"] != AS_ORDERED)
    for name in ("prewarm_after_s", "prewarm_timer"):
        fn[name] = np.where(ends, np.inf, fn[name])
    return planned


def _place(
    decision: Decision, state: State, clusters: Sequence[Cluster], possible: Capabilities
) -> None:
    """Take over targets and wanted nodes, as far as they are legal, for `obey_rows`."""
    rows, node = state.rows, state.node
    targets, clips = legalize_targets(decision.targets, clusters, possible.targets)
    rows["clipped"] += clips
    if targets is not None:
        fill_targets(state, targets)
    present = state.nodes_by_class(up=False)
    nodes, clips = legalize_nodes(decision.nodes_wanted, present, possible.capacity)
    rows["clipped"] += clips
    if nodes is not None:
        most = np.take_along_axis(nodes, node["kind"], axis=1)
        node["wanted"] = state.node_ranks() < most
        rows["placing"] = 1


def _make_room(state: State) -> None:
    """Grow the tables until they hold whatever obeying the standing orders can cause."""
    rows, wanted = state.rows, _wanted(state)
    while np.any(rows["free_n"] <= wanted + 1 + parkable_of(rows)):
        state.grow_instances()
    room = int((rows["heap_n"] + rows["slowed_n"] + rows["queued"]).max())
    room += 4 * state.fn.shape[1] + 4 * wanted + state.size.nodes + RESERVE
    room += int(np.max(parkable_of(rows)))
    if room > state.heap.shape[1]:
        state.grow_heap(2 * room)


def _wanted(state: State) -> int:
    """Most instance slots that obeying the standing orders can take in one row."""
    fn, rows = state.fn, state.rows
    whole = np.maximum(fn["bytes"] * fn["gpus"], 1)
    fit = state.gpu["cap"].sum(axis=1, dtype=np.float64)[:, None] // whole
    loads = np.minimum(np.maximum(fn["prewarm"] - fn["n"], 0), np.minimum(fit, MOST_LOADS))
    slots = (loads * fn["gpus"]).sum(axis=1) + fn["prewarm_host"].sum(axis=1)
    floors = np.minimum(state.target["min"], MOST_LOADS).sum(axis=1)
    slots += (rows["queued"] + floors) * rows["spans"]
    return int(slots.max())
