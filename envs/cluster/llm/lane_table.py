"""Replicas of the live instances of one cluster, and how compiled code reaches theirs.

Units: seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from stoker.envs.cluster.llm.tables import ROW
from stoker.envs.cluster.tables import _reference as reference

FORM, END, CUT, STOP, BOOK = range(5)
"""Turns (lane.py)."""
OFF, DUE, RUNS = range(3)
"""What a lane does: nothing, a turn at this instant is due, a batch runs."""

OWN = [
    ("inst", "i8"), ("phase", "i8"), ("stamp", "i8"), ("next", "i8"), ("pattern", "i8"),
    ("inbox_head", "i8"), ("inbox_tail", "i8"),
    ("began", "f8"), ("steps", "i8"), ("total_s", "f8"), ("first_s", "f8"), ("last_s", "f8"),
    ("ttft_s", "f8"), ("tbt_s", "f8"), ("warmup", "f8"), ("busy_s", "f8"), ("prompt_tokens", "i8"),
    ("booked", "i8"), ("booked_s", "f8"),
    ("gaps", "i8"), ("gap_s", "f8"), ("worst_s", "f8"), ("late", "i8"), ("late_share", "f8"),
]  # fmt: skip
LANE: Any = np.dtype([(name, ROW[name]) for name in ROW.names or ()] + OWN, align=True)
"""A replica, whose instance it is, requests that wait to be let in, and the batch that runs:
iterations, time of all, of the first and of the last. Events with another `stamp` are void.

The first lanes of a row are patterns, one an LLM function; a live instance takes a free one and
copies its function's (number `pattern`), whose budget it goes by. There, too, are the function's
targets and the books of all its replicas (token_books.py); `booked`: iterations that they hold."""
COPIED_FROM, COPIED_END = (LANE.fields[name][1] // 8 for name in ("reqs", "inst"))
"""Words that are copied from a pattern: all of a replica but its tables, which a lane keeps."""

lane_at = reference(LANE)


@intrinsic
def _call(typingctx: Any, code: Any, lanes: Any, k: Any, kind: Any, t: Any) -> Any:
    """Call the code at an address (lane.py) on lane k of a table."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        kind_of = ir.FunctionType(word, [word, word, word, ir.DoubleType()])
        return builder.call(builder.inttoptr(args[0], kind_of.as_pointer()), args[1:])

    return types.int64(*[types.int64] * 4, types.float64), codegen


take_turn: Any = _call
