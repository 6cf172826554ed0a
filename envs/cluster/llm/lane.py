"""The replica of a live instance of a cluster: driven from outside, one turn at a time.

The cluster's engine owns the clock and the instances. It hands requests in through `inbox_head`,
and reaches the replica's code through one address, so that clusters without LLM functions compile
none of it:

| turn | when | what it does |
| --- | --- | --- |
| FORM | requests came in, or a batch is over | take the inbox, form the next batch, say how long |
| END | its time has come | advance every member of the batch |
| CUT | a request came in during a stretch | end the stretch with the iteration that runs then |
| BOOK | somebody looks at the books | count the tokens put out by then (token_books.py) |
| STOP | its budget is another one now | the same, whether or not an arrival could be let in |

A stretch is planned without a look at arrivals, which nobody knows yet, and cut when one comes; the
replica's own loop (engine.py) looks ahead instead. Both run the same iterations.

Units: seconds.
"""

from __future__ import annotations

import math
from functools import cache

from stoker.envs.cluster.jit import address_of, njit
from stoker.envs.cluster.llm.engine import enqueue, finish_batch, form, plan_batch
from stoker.envs.cluster.llm.lane_table import BOOK, CUT, END, FORM, STOP, lane_at
from stoker.envs.cluster.llm.stretch import ended_by, looks_out, shorten
from stoker.envs.cluster.llm.tables import NONE, req_at
from stoker.envs.cluster.llm.token_books import book_tokens


@njit
def _take_inbox(s):
    """Queue what has come in, in order of arrival."""
    q = s["inbox_head"]
    s["inbox_head"] = s["inbox_tail"] = NONE
    while q != NONE:
        request = req_at(s["req"], q)
        following = request["next"]
        enqueue(s, q, request)
        q = following


@njit
def _form(s, t):
    s["now"] = t
    _take_inbox(s)
    form(s)
    while s["members"] == 0 and s["preempted"] > 0:
        form(s)
    if s["members"] > 0:
        s["began"], s["booked"], s["booked_s"] = t, 0, 0.0
        s["steps"], s["total_s"], s["first_s"], s["last_s"] = plan_batch(s)


@njit
def _cut(s, t):
    if s["steps"] > 1:
        s["steps"], s["total_s"], s["first_s"], s["last_s"] = shorten(s, s["steps"], t - s["began"])


def _turn(lanes: int, k: int, kind: int, t: float) -> int:
    """Let lane k of the table at an address take its turn."""
    s = lane_at(lanes, k)
    books = lane_at(lanes, s["pattern"])
    if kind == END:
        if books["tbt_s"] < math.inf:
            book_tokens(books, s, s["steps"], s["total_s"])
        finish_batch(s, s["began"], s["steps"], s["total_s"], s["first_s"], s["last_s"])
    elif kind == STOP or (kind == CUT and looks_out(s)):
        _cut(s, t)
    elif kind == FORM:
        s["budget"] = books["budget"]
        _form(s, t)
    elif kind == BOOK and books["tbt_s"] < math.inf:
        steps, total_s, _, _ = ended_by(s, s["steps"], t - s["began"])
        book_tokens(books, s, steps, total_s)
    return 0


@cache
def turn_address() -> int:
    """Address of the compiled code."""
    return address_of(_turn, "int64(int64, int64, int64, float64)")
