"""The replica engine's state: one record a replica, with pointers to its tables of records.

Shapes: N requests, Q queues, B members of a batch.  Units: seconds, tokens, blocks.
"""

from __future__ import annotations

import numpy as np

from stoker.envs.cluster.llm.calibration import STEPS
from stoker.envs.cluster.tables import _reference as reference

NONE = -1
SARATHI, VLLM, ORCA, REQUEST_LEVEL, FASTSERVE, VTC = range(6)
"""Schedulers."""
LEVELS = 16
"""Queues of FastServe; the last holds 2^15 quanta and everything beyond."""

REQ = np.dtype(
    [
        # read in every iteration: tokens done and due, the prompt among them, blocks held
        ("processed", "i4"), ("total", "i4"), ("prompt", "i4"), ("blocks", "i4"),
        ("last_token", "f8"), ("max_gap", "f8"),
        ("client", "i4"), ("queue", "i4"), ("next", "i4"), ("restarts", "i4"),
        ("used_s", "f8"), ("last_step", "f8"),
        ("arrival", "f8"), ("first_scheduled", "f8"), ("first_token", "f8"), ("completed", "f8"),
        ("rejected", "i4"), ("output", "i4"), ("late", "i4"),
    ],
    align=True,
)  # fmt: skip
"""A request. `prompt` is what must be computed before the next token: after a restart also what it
had put out. `processed` counts tokens computed, and one more from the first output token on;
`output` are those asked for, `late` those that came late after the one before (token_books.py)."""
MEMBER = np.dtype([("q", "i4"), ("tokens", "i4")], align=True)
"""A request in a batch, and its tokens in that iteration."""
PLACE = np.dtype([("q", "i4")])
QUEUE = np.dtype([("head", "i8"), ("tail", "i8"), ("n", "i8"), ("service", "f8")], align=True)
"""A queue of requests: all of them, those of a level (FastServe), those of a client (VTC), with the
service that the client had (VTC's counter)."""
LOG = np.dtype(
    [
        ("start", "f8"), ("end", "f8"), ("chunks", "i8"), ("chunk_tokens", "i8"),
        ("decodes", "i8"), ("tokens", "i8"), ("context", "i8"), ("first", "i8"), ("n", "i8"),
    ],
    align=True,
)  # fmt: skip
"""An iteration; its members are `n` from `first` on."""

ROW = np.dtype(
    [
        # tables
        ("req", "i8"), ("queue", "i8"), ("run", "i8"), ("batch", "i8"), ("log", "i8"),
        ("log_member", "i8"),
        # what was asked for
        ("reqs", "i8"), ("queues", "i8"), ("scheduler", "i8"), ("budget", "i8"),
        ("max_batch", "i8"), ("max_tokens", "i8"), ("block_size", "i8"), ("num_blocks", "i8"),
        ("watermark", "i8"), ("reserve", "i8"), ("log_cap", "i8"),
        ("padded", "i8"), ("resort", "i8"), ("keep_prompt", "i8"), ("test_always", "i8"),
        ("quantum", "f8"), ("patience", "f8"), ("prompt_cost", "f8"), ("output_cost", "f8"),
        # time of an iteration (iteration.py)
        ("host_s", "f8"), ("beyond_s", "f8"), ("overhead", "f8"),
        ("p", "f8", (5,)), ("d", "f8", (5,)), ("token_s", "f8", (STEPS,)),
        # now
        ("now", "f8"), ("next_req", "i8"), ("waiting", "i8"), ("running", "i8"), ("free", "i8"),
        ("least_free", "i8"), ("iterations", "i8"), ("restarts", "i8"), ("done", "i8"),
        ("rejected", "i8"), ("logged", "i8"), ("log_members", "i8"),
        # the batch that is formed
        ("members", "i8"), ("tokens", "i8"), ("chunks", "i8"), ("chunk_tokens", "i8"),
        ("decodes", "i8"), ("context", "i8"), ("least_left", "i8"), ("preempted", "i8"),
        ("chunk_s", "f8"),
    ],
    align=True,
)  # fmt: skip
"""`reserve`: blocks taken for a request at admission; 0 = those of its prompt, then one by one.
`padded` .. `test_always`: see presets.py."""

req_at, member_at, place_at = reference(REQ), reference(MEMBER), reference(PLACE)
queue_at, log_at = reference(QUEUE), reference(LOG)
