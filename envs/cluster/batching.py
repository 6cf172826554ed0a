"""Batches decided from outside: wait, refuse the head of the queue, or run its first b requests.

A row with `batching` set stops wherever a batch could start and something has happened: an arrival,
the end of a batch, a timer. A policy then decides for one function at a time (the one whose head is
due first), or for all that are asked about at once.

Shapes: B rows, S slots for functions, K features, Z batch sizes, W places of a queue.
Units: seconds; costs in requests and in latency targets.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.asking import can_run
from stoker.envs.cluster.batches import claim, run_next
from stoker.envs.cluster.engine import OVER, PAUSED, advance, close
from stoker.envs.cluster.events import BATCH, push
from stoker.envs.cluster.gpu_class import times_on
from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.observe_batch import K, observe_batch
from stoker.envs.cluster.requests import dequeue, drop, head_arrival
from stoker.envs.cluster.service import choose_slot, dispatch
from stoker.envs.cluster.service_time import takes_s
from stoker.envs.cluster.tables import NONE, f8_at, fn_at, inst_at, req_at

WAIT, DROP, RUN = 0, 1, 2
"""Actions; from RUN on: run up to sizes[action - RUN] requests."""
TERMS = ("wait", "late", "drop", "busy")
"""Costs >= 0: waiting and time of the batches begun, in latency targets of the function; requests
that are late, charged as soon as their deadline passes in the queue, else when they end; requests
refused before that. A request is late or refused but once, and nothing is saved by keeping it."""
AGAIN = 2
"""`asked` of a function that has acted and may be asked about once more."""


@njit
def most_urgent(r, t):
    """The function whose head is due first, of those asked about that can run now, or NONE."""
    best, least = NONE, math.inf
    for f in range(r["fns"]):
        fn = fn_at(r["fn"], f)
        if fn["asked"] != 1:
            continue
        if fn["queued"] == 0 or not can_run(r, choose_slot(r, f, t)):
            fn["asked"] = 0
            continue
        due = head_arrival(r, f) + fn["slo_s"]
        if best == NONE or due < least:
            best, least = f, due
    return best


@njit
def _start(r, f, n, t):
    """Run the first n requests of f."""
    fn = fn_at(r["fn"], f)
    i = choose_slot(r, f, t)
    claim(r, i, t)
    fn["ran"], fn["ran_s"] = n, takes_s(r, i, fn["q_head"], n, t)
    fn["begun_s"] += fn["ran_s"]
    paid = min(fn["overdue"], n)
    fn["overdue"] -= paid
    fn["prepaid"] += paid
    run_next(r, i, n, t)


@njit
def _obey(r, f, action, sizes, share, t):
    """Carry out the decision on f; all timers before it are void."""
    fn = fn_at(r["fn"], f)
    fn["batch_timer"] = math.inf
    if action == WAIT:
        fn["asked"] = 0
        if share < math.inf:
            fn["batch_timer"] = t + share * fn["slo_s"]
            push(r, fn["batch_timer"], BATCH, f, 0)
        return
    fn["asked"] = AGAIN
    if action == DROP:
        fn["acc_wait_s"] += t - head_arrival(r, f)
        drop(r, dequeue(r, f), t)
        if fn["overdue"] > 0:
            fn["overdue"] -= 1
            fn["acc_drops"] -= 1
    else:
        _start(r, f, min(sizes[action - RUN], fn["queued"], fn["max_batch"]), t)


@njit
def _act(r, one, actions, sizes, share):
    """Carry out a row's decisions, the most urgent first; return how many came too late.

    actions: one a slot; `one`: only that of the function that is most urgent counts.
    """
    t = r["now"]
    wanted = done = 0
    for f in range(r["fns"]):
        wanted += fn_at(r["fn"], f)["asked"] == 1 and actions[f] != WAIT
    f = r["pending"]
    while f != NONE:
        _obey(r, f, actions[f], sizes, share, t)
        done += actions[f] != WAIT
        f = NONE if one else most_urgent(r, t)
    r["pending"] = NONE
    for g in range(r["fns"]):
        fn = fn_at(r["fn"], g)
        if fn["asked"] == AGAIN:
            fn["asked"] = 0
            dispatch(r, g, t)
    r["pending"] = most_urgent(r, t)
    return 0 if one else wanted - done


@njit
def _charge(r, terms, counts):
    """Add to `terms` (Shape: (4,)) and `counts` what the row has cost since the last call."""
    t = r["now"]
    for f in range(r["fns"]):
        fn = fn_at(r["fn"], f)
        waiting, overdue = 0.0, 0
        q = fn["q_head"]
        for _ in range(fn["queued"]):
            waited = t - f8_at(r["arrival"], q)["v"]
            waiting += waited
            overdue += waited > fn["slo_s"]
            q = req_at(r["req"], q)["next"]
        paid = min(fn["acc_late"], fn["prepaid"])
        terms[0] += max(fn["acc_wait_s"] + waiting - fn["charged_s"], 0.0) / fn["slo_s"]
        terms[1] += fn["acc_late"] - paid + overdue - fn["overdue"]
        terms[2] += fn["acc_drops"]
        terms[3] += fn["begun_s"] / fn["slo_s"]
        counts[0] += fn["acc_requests"]
        fn["overdue"] = overdue
        fn["prepaid"] -= paid
        fn["charged_s"], fn["acc_wait_s"], fn["begun_s"] = waiting, 0.0, 0.0
        fn["acc_late"] = fn["acc_drops"] = fn["acc_requests"] = 0


@njit
def _describe_due(r, f, figures, queue, deadlines):
    """Exact figures of the function that is most urgent; see batch_due.py."""
    fn = fn_at(r["fn"], f)
    times = times_on(r, f, inst_at(r["inst"], choose_slot(r, f, r["now"]))["gpu"])
    figures[0], figures[1], figures[2] = r["now"], times["alpha_s"], times["beta_s"]
    figures[3], figures[4] = fn["slo_s"], fn["ran_s"]
    queue[0], queue[1], queue[2] = fn["queued"], fn["max_batch"], fn["ran"]
    queue[3] = fn["arrivals"]
    places = deadlines.shape[0]
    q = fn["q_head"]
    for n in range(places):
        if n < fn["queued"]:
            deadlines[n] = f8_at(r["arrival"], q)["v"] + fn["slo_s"]
            q = req_at(r["req"], q)["next"]
        else:
            deadlines[n] = math.inf


@njit
def _describe(r, k, one, books):
    """Describe row k at a decision or at its horizon, and charge what it has cost."""
    observation, terms, counts, function, room, figures, queue, deadlines = books
    _charge(r, terms[k], counts[k])
    if r["pending"] != NONE:
        function[k] = r["pending"]
        _describe_due(r, r["pending"], figures[k], queue[k], deadlines[k])
    for f in range(r["fns"]):
        fn = fn_at(r["fn"], f)
        room[k, f] = min(fn["queued"], fn["max_batch"]) if fn["asked"] == 1 else 0
        if not one:
            observation[k, f * (1 + K)] = 1.0
            observe_batch(r, f, r["now"], observation[k, f * (1 + K) + 1 : (f + 1) * (1 + K)])
    if one:
        observe_batch(r, function[k], r["now"], observation[k])


@entry
def step_batches(rows, first, last, until, acting, one, actions, sizes, share, books):
    """Decide where a decision is due, then run on to the next one and describe it.

    Args:
        rows: Shape: (B,)
        first: row to begin with.
        last: row before which to end.
        until: time to which each row runs. Shape: (B,)
        acting: whether `actions` are to be carried out; else rows that are due stay where they are.
        one: decide only for the function that is most urgent.
        actions: legal ones. Shape: (B, S)
        sizes: of batches, ascending. Shape: (Z,)
        share: longest wait for the next decision, in latency targets; inf = no timer.
        books: what is described; see batch_due.py. Terms and counts are added to.
    """
    counts = books[2]
    for k in range(first, last):
        r = rows[k]
        if r["pending"] != NONE:
            if not acting:
                continue
            counts[k, 1] += _act(r, one, actions[k], sizes, share)
        while r["status"] != OVER:
            r["status"] = advance(r, until[k])
            if r["status"] != PAUSED:
                break
            r["pending"] = most_urgent(r, r["now"])
            if r["pending"] != NONE:
                break
        if r["status"] == OVER:
            close(r)
        if r["status"] == OVER or r["status"] == PAUSED:
            _describe(r, k, one, books)


@entry
def close_books(rows, k, books):
    """Forget what row k has cost so far."""
    terms, counts = books[1], books[2]
    _charge(rows[k], terms[k], counts[k])
    for j in range(len(TERMS)):
        terms[k, j] = 0.0
    counts[k, 0] = counts[k, 1] = 0


@entry
def ask_live(rows, books):
    """Describe the decision that a live row waits for, if it does; see LiveEngine."""
    r = rows[0]
    r["pending"] = most_urgent(r, r["now"])
    if r["pending"] != NONE:
        _describe(r, 0, True, books)


@entry
def obey_live(rows, actions, sizes, share):
    """Carry out the decision on the function that a live row asked about. Shape: (1, S)"""
    _act(rows[0], True, actions[0], sizes, share)
