"""Ask the processor for a row's tables while another row is worked on.

Many rows do not fit in the cache; a step visits each once, in order, so what the next one needs is
known beforehand. (256 rows: a fifth of the time of a step.)  Units: bytes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import EVENT, FN, GPU, LINK, NONE, i4_at

LINE = 64
NEAR_EVENTS = 4
"""Events at the top of the heap that are asked for."""


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
def bring_near(r):
    """Ask for what the next step of row r reads first."""
    f = r["pending"]
    if f != NONE:
        _bring(r["fn"] + f * FN_SIZE, FN_SIZE)
    if r["next_req"] < r["reqs"]:
        f = i4_at(r["function"], r["next_req"])["v"]
        _bring(r["fn"] + f * FN_SIZE, FN_SIZE)
    _bring(r["heap"], NEAR_EVENTS * EVENT_SIZE)
    _bring(r["gpu"], GPU_SIZE)
    _bring(r["link"], 2 * LINK_SIZE)


EVENT_SIZE, FN_SIZE = EVENT.itemsize, FN.itemsize
GPU_SIZE, LINK_SIZE = GPU.itemsize, LINK.itemsize
