"""Ask the processor for a row's tables while other rows are worked on.

Many rows do not fit in the cache; a step visits each once, in order, so what the next ones need is
known beforehand. What an address depends on must have come before it is asked for, so it goes in
stages, each for a row further ahead. (256 rows: a third of the time of a step.)  Units: bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from stoker.envs.cluster.events import DONE, EXPIRE, KIND_BITS, PHASE, PREWARM
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.row import ROW
from stoker.envs.cluster.tables import (
    CF,
    EVENT,
    F8,
    FN,
    GF,
    GPU,
    I4,
    INST,
    LINE,
    LINK,
    NONE,
    REQ,
    event_at,
    fn_at,
    i4_at,
)

NEAR_EVENTS = 15
"""Events at the top of the heap that are asked for."""
NEAR_INST = 3 * LINE
"""Of an instance, what requests touch."""


def _offset(table: np.dtype[Any], field: str) -> int:
    """Where a field of a record begins."""
    assert table.fields is not None
    return int(table.fields[field][1])


ROW_SIZE, FN_SIZE, INST_SIZE = ROW.itemsize, FN.itemsize, INST.itemsize
GPU_SIZE, LINK_SIZE, GF_SIZE, CF_SIZE = GPU.itemsize, LINK.itemsize, GF.itemsize, CF.itemsize
EVENT_SIZE, REQ_SIZE, F8_SIZE, I4_SIZE = EVENT.itemsize, REQ.itemsize, F8.itemsize, I4.itemsize
PRIOR, COUNTS = _offset(ROW, "prior_sum"), _offset(ROW, "evictions")
TIMER, SLOW, MIX = _offset(FN, "prewarm_timer"), _offset(FN, "slow"), _offset(FN, "mix")
IDLE, INDEX, CLOSING = _offset(FN, "last_idle"), _offset(FN, "index"), _offset(FN, "closing")


@intrinsic
def _line(typingctx: Any, address: Any) -> Any:
    """Ask for one cache line."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(hint, [builder.inttoptr(args[0], byte), flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@njit
def _bring(address, size):
    for at in range(0, size, LINE):
        _line(address + at)


@njit
def bring_score(r, f):
    """Ask for what an eviction reads of function f: its index at the lower ages, and its size."""
    _bring(r["fn"] + f * FN_SIZE + IDLE, 4 * LINE)


@njit
def bring_ahead(rows, k, last):
    """Ask for what the rows after k, up to `last`, need, each as far as it is known."""
    if k + 4 < last:
        _bring_row(rows, k + 4)
    if k + 3 < last:
        _bring_tables(rows[k + 3])
    if k + 2 < last:
        _bring_functions(rows[k + 2])
    if k + 1 < last:
        _bring_instances(rows[k + 1])


@njit
def _bring_row(rows, k):
    """The record of row k: where its tables are, its clocks and counters."""
    at = rows.ctypes.data + k * ROW_SIZE
    _bring(at, PRIOR)
    _bring(at + COUNTS, ROW_SIZE - COUNTS)


@njit
def _bring_tables(r):
    """What the record of row r tells the place of: the next request, events, the GPU, its links."""
    q = r["next_req"]
    _line(r["function"] + q * I4_SIZE)
    _line(r["arrival"] + q * F8_SIZE)
    _line(r["service"] + q * F8_SIZE)
    _line(r["req"] + q * REQ_SIZE)
    _bring(r["heap"], min(r["heap_n"], NEAR_EVENTS) * EVENT_SIZE)
    _line(r["heap"] + (r["heap_n"] - 1) * EVENT_SIZE)
    _bring(r["gpu"], GPU_SIZE)
    _bring(r["link"], 2 * LINK_SIZE)


@njit
def _bring_functions(r):
    """The function that row r decides on, and the one that the next request is for."""
    f = r["pending"]
    if f != NONE:
        at = r["fn"] + f * FN_SIZE
        _bring(at, INDEX)
        _line(at + CLOSING)
        _line(r["gf"] + f * GF_SIZE)
    if r["next_req"] < r["reqs"]:
        f = i4_at(r["function"], r["next_req"])["v"]
        at = r["fn"] + f * FN_SIZE
        _bring(at, SLOW)
        _line(at + MIX)
        _line(at + IDLE)
        _line(r["gf"] + f * GF_SIZE)
        _line(r["cf"] + f * CF_SIZE)


@njit
def _bring_instances(r):
    """First instances of these two, and what the next event is about."""
    if r["pending"] != NONE:
        _bring_first(r, r["pending"])
    if r["next_req"] < r["reqs"]:
        _bring_first(r, i4_at(r["function"], r["next_req"])["v"])
    if r["heap_n"] == 0:
        return
    event = event_at(r["heap"], 0)
    kind = event["key"] >> KIND_BITS
    if kind == PREWARM:
        _line(r["fn"] + event["a"] * FN_SIZE + TIMER)
    elif kind == DONE:
        _line(r["req"] + event["a"] * REQ_SIZE)
    elif kind in (PHASE, EXPIRE):
        _bring(r["inst"] + event["a"] * INST_SIZE, NEAR_INST)


@njit
def _bring_first(r, f):
    i = fn_at(r["fn"], f)["open_head"]
    if i != NONE:
        _bring(r["inst"] + i * INST_SIZE, NEAR_INST)
