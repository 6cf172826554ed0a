"""The replica's loop: take arrivals, form a batch, run it, once an iteration or once a stretch.

The order of events at one instant is Vidur's: arrivals queue first, then the batch that ends is
handled, then the next is formed. All that arrive at the same instant while the replica is idle can
be in its first batch.

Units: seconds, tokens.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.llm.batch import open_batch
from stoker.envs.cluster.llm.blocks import blocks_of, can_ever_start, reject, take
from stoker.envs.cluster.llm.iteration import batch_s
from stoker.envs.cluster.llm.queues import push_back
from stoker.envs.cluster.llm.schedulers.fastserve import (
    after_fastserve,
    form_fastserve,
    join_level,
)
from stoker.envs.cluster.llm.schedulers.orca import form_orca
from stoker.envs.cluster.llm.schedulers.request_level import form_request_level
from stoker.envs.cluster.llm.schedulers.sarathi import form_sarathi
from stoker.envs.cluster.llm.schedulers.vllm import form_vllm
from stoker.envs.cluster.llm.schedulers.vtc import after_vtc, form_vtc, join_client
from stoker.envs.cluster.llm.stretch import stretch
from stoker.envs.cluster.llm.tables import (
    FASTSERVE,
    ORCA,
    REQUEST_LEVEL,
    SARATHI,
    VLLM,
    VTC,
    log_at,
    member_at,
    place_at,
    req_at,
)


@njit
def form(r):
    """Form the next batch."""
    open_batch(r)
    k = r["scheduler"]
    if k == SARATHI:
        form_sarathi(r)
    elif k == VLLM:
        form_vllm(r)
    elif k == ORCA:
        form_orca(r)
    elif k == REQUEST_LEVEL:
        form_request_level(r)
    elif k == FASTSERVE:
        form_fastserve(r)
    elif k == VTC:
        form_vtc(r)


@njit
def can_be_served(r, s):
    """Whether a request fits the replica: its tokens the limit, its blocks the memory."""
    most = blocks_of(r, max(s["prompt"], s["total"] - 1))
    return s["total"] <= r["max_tokens"] and most <= r["num_blocks"] and can_ever_start(r, s)


@njit
def enqueue(r, q, s):
    """Queue a request that has arrived, or refuse it."""
    if not can_be_served(r, s):
        reject(r, s)
    elif r["scheduler"] == FASTSERVE:
        join_level(r, q)
    elif r["scheduler"] == VTC:
        join_client(r, q)
    else:
        push_back(r, q)


@njit
def take_arrivals(r):
    """Queue everything that has arrived."""
    while r["next_req"] < r["reqs"]:
        q = r["next_req"]
        s = req_at(r["req"], q)
        if s["arrival"] > r["now"]:
            return
        r["next_req"] += 1
        enqueue(r, q, s)


@njit
def _note_token(s, first_end, last_s, end, steps):
    """Book output tokens at first_end .. end; the gaps between them never shrink."""
    gap = first_end - s["last_token"]
    if steps > 1:
        gap = max(gap, last_s)
    if gap > s["max_gap"]:
        s["max_gap"] = gap
    s["last_token"] = end


@njit
def _end_chunk(s, c, end):
    """Book c prompt tokens; with the last of them comes an output token."""
    s["processed"] += c
    if s["processed"] < s["prompt"]:
        return
    s["processed"] += 1
    if math.isnan(s["first_token"]):
        s["first_token"] = s["last_token"] = end
    else:
        _note_token(s, end, 0.0, end, 1)


@njit
def _grow(r, s, steps):
    """Take the blocks that a stretch needs after its first iteration."""
    beyond = s["processed"] + steps - 1 - s["blocks"] * r["block_size"]
    if beyond > 0:
        take(r, s, blocks_of(r, beyond))


@njit
def end_batch(r, steps, first_end, last_s):
    """Advance every member to the present; who is done leaves, the others run on."""
    req, batch, run, running = r["req"], r["batch"], r["run"], r["running"]
    end, freed, done = r["now"], 0, 0
    grows, keeps = steps > 1, r["scheduler"] != FASTSERVE
    for i in range(r["members"]):
        m = member_at(batch, i)
        q = m["q"]
        s = req_at(req, q)
        if s["processed"] < s["prompt"]:
            _end_chunk(s, m["tokens"], end)
        else:
            if grows:
                _grow(r, s, steps)
            s["processed"] += steps
            _note_token(s, first_end, last_s, end, steps)
        if s["processed"] == s["total"]:
            s["completed"] = end
            freed += s["blocks"]
            s["blocks"] = 0
            done += 1
        elif keeps:
            place_at(run, running)["q"] = q
            running += 1
    r["running"] = running
    r["done"] += done
    # Only now: within a stretch others took theirs before these were free.
    r["free"] += freed


@njit
def _write_log(r, start):
    """Keep one iteration and its members."""
    k, first = r["logged"], r["log_members"]
    line = log_at(r["log"], k)
    line["start"], line["end"] = start, r["now"]
    line["chunks"], line["chunk_tokens"] = r["chunks"], r["chunk_tokens"]
    line["decodes"], line["tokens"], line["context"] = r["decodes"], r["tokens"], r["context"]
    line["first"], line["n"] = first, r["members"]
    for i in range(r["members"]):
        kept, m = member_at(r["log_member"], first + i), member_at(r["batch"], i)
        kept["q"], kept["tokens"] = m["q"], m["tokens"]
    r["logged"] += 1
    r["log_members"] += r["members"]


@njit
def plan_batch(r):
    """How many iterations the batch that was formed runs, the time of all, of first and last."""
    if r["chunks"] > 0:
        total_s = batch_s(r)
        return 1, total_s, total_s, total_s
    return stretch(r)


@njit
def finish_batch(r, start, steps, total_s, first_s, last_s):
    """End a batch that was planned so."""
    r["now"] = start + total_s
    if r["logged"] < r["log_cap"]:
        _write_log(r, start)
    end_batch(r, steps, start + first_s, last_s)
    r["iterations"] += steps
    if r["scheduler"] == FASTSERVE:
        after_fastserve(r, total_s, steps)
    elif r["scheduler"] == VTC:
        after_vtc(r, steps)


@njit
def run_batch(r):
    """Run the batch that was formed, and those that follow from it without a change."""
    start = r["now"]
    steps, total_s, first_s, last_s = plan_batch(r)
    finish_batch(r, start, steps, total_s, first_s, last_s)


@njit
def serve(r):
    """Serve every request of one replica."""
    while True:
        take_arrivals(r)
        form(r)
        if r["members"] > 0:
            run_batch(r)
        elif r["preempted"] == 0:
            if r["next_req"] == r["reqs"]:
                return
            r["now"] = req_at(r["req"], r["next_req"])["arrival"]


@entry
def serve_rows(rows):
    """Serve every request of every replica."""
    for k in range(rows.shape[0]):
        serve(rows[k])
