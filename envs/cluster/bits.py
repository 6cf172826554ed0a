"""The exponent and the fraction of a double, read from its bits: x = m 2^e, 1 <= m < 2."""

from __future__ import annotations

import math
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_FRACTION = (1 << 52) - 1
"""Bits of a double's fraction."""
_ONE = 1023 << 52
"""Bits of 1.0."""
_MAGIC = 1075 << 52
"""Bits of 2^52: with an integer in its fraction it is 2^52 more than that integer."""


if vars(numba.config)["DISABLE_JIT"]:

    def exponent_of(x: float) -> float:
        """The exponent e."""
        return float(math.frexp(x)[1] - 1)

    def fraction_of(x: float) -> float:
        """The fraction m."""
        return 2.0 * math.frexp(x)[0]

else:

    @intrinsic
    def exponent_of(typingctx: Any, x: Any) -> Any:
        """The exponent e of a positive normal double, itself a double."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            whole, double = ir.IntType(64), ir.DoubleType()
            biased = builder.lshr(builder.bitcast(args[0], whole), whole(52))
            shifted = builder.bitcast(builder.or_(biased, whole(_MAGIC)), double)
            return builder.fsub(shifted, double(2.0**52 + 1023.0))

        return types.float64(types.float64), codegen

    @intrinsic
    def fraction_of(typingctx: Any, x: Any) -> Any:
        """The fraction m."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            whole = ir.IntType(64)
            own = builder.and_(builder.bitcast(args[0], whole), whole(_FRACTION))
            return builder.bitcast(builder.or_(own, whole(_ONE)), ir.DoubleType())

        return types.float64(types.float64), codegen
