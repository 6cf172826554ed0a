"""Bring the books of the tokens of LLM functions up to the present.

They are kept when a batch ends; a stretch of many iterations that runs is counted as far as it has
come.  Units: seconds.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.llm.lane_table import BOOK, RUNS, lane_at, take_turn
from stoker.envs.cluster.tables import NONE, READY, inst_at


@njit
def book_row(r):
    """Count the tokens that the replicas of a row have put out."""
    for i in range(r["insts"]):
        inst = inst_at(r["inst"], i)
        if inst["state"] != READY or inst["lane"] == NONE:
            continue
        if lane_at(r["lane"], inst["lane"])["phase"] == RUNS:
            take_turn(r["turn"], r["lane"], inst["lane"], BOOK, r["now"])


@entry
def book_rows(rows):
    """The same for every row."""
    for k in range(rows.shape[0]):
        book_row(rows[k])
