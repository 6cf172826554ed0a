"""What a controller must not forget when it is restarted: features, forecasts, prices.

Everything else (instances, queues, copies) is gone with the process. Functions are known by name,
so that a deployment may change in between.  Units: seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.state import State
from stoker.envs.cluster.tables import HYBRID

Memory = dict[str, NDArray[Any]]
OF_FUNCTIONS = (
    "arrivals", "gaps", "last_arrival", "last_idle", "gap", "gap_bin", "prev_bin", "rate",
    "slow_unit", "fast_unit", "slow_sum", "fast_sum", "slow", "fast", "mix", "multiplier",
    "variant",
)  # fmt: skip
"""Fields of tables.FN; see features.py and rules/hazard.py."""
TIMES = ("last_arrival", "last_idle")
OF_CLUSTER = ("prior_sum", "prior", "price", "link_price")


def remember(state: State, names: Sequence[str], k: int = 0) -> Memory:
    """Copy what is known in row k."""
    fn, row = state.fn[k][: len(names)], state.rows[k]
    memory: Memory = {name: fn[name].copy() for name in OF_FUNCTIONS}
    memory |= {name: np.array(row[name]) for name in OF_CLUSTER}
    memory["names"], memory["now"] = np.array(names, np.str_), np.array(row["now"])
    # What is in flight now is lost with the process, and the function is idle from then on.
    working = (fn["inflight"] > 0) | (fn["queued"] > 0)
    memory["last_idle"][working] = row["now"]
    if state.hybrid.shape[1]:
        memory |= {f"hybrid_{name}": state.hybrid[k][name].copy() for name in HYBRID.names or ()}
    return memory


def recall(state: State, names: Sequence[str], memory: Memory, away_s: float, k: int = 0) -> None:
    """Write what was remembered into row k, which has just begun, functions by name.

    Args:
        state: of the new engine.
        names: of its functions.
        memory: of the one before.
        away_s: time between what was remembered and this row's time 0.
        k: the row.

    Raises:
        SpecError: a part is missing, of another shape, or no number.
    """
    _check(state, memory, k)
    here = {name: f for f, name in enumerate(names)}
    found = [(f, here[str(name)]) for f, name in enumerate(memory["names"]) if str(name) in here]
    if not found:
        return
    old, new = (np.array(side, np.int64) for side in zip(*found, strict=True))
    fn, row = state.fn[k], state.rows[k]
    for name in OF_FUNCTIONS:
        shift = float(memory["now"]) + away_s if name in TIMES else 0
        fn[name][new] = memory[name][old] - shift
    for name in OF_CLUSTER:
        row[name] = memory[name]
    if state.hybrid.shape[1] and "hybrid_count" in memory:
        for name in HYBRID.names or ():
            state.hybrid[k][name][new] = memory[f"hybrid_{name}"][old]


def _check(state: State, memory: Memory, k: int) -> None:
    missing = {*OF_FUNCTIONS, *OF_CLUSTER, "names", "now"} - set(memory)
    if missing:
        raise SpecError("memory", sorted(missing), "these parts to be present")
    count = len(memory["names"])
    for name in OF_FUNCTIONS:
        expected = (count, *state.fn[k][name].shape[1:])
        if memory[name].shape != expected:
            raise SpecError(f"memory.{name}", memory[name].shape, f"shape {expected}")
    for name in (*OF_CLUSTER, "now"):
        if memory[name].shape != (state.rows[k][name].shape):
            raise SpecError(f"memory.{name}", memory[name].shape, "the shape of this version")
    for name, like in ((n, memory[n]) for n in memory if n.startswith("hybrid_")):
        if like.dtype.kind not in "iu" or like.shape[:1] != (count,):
            raise SpecError(f"memory.{name}", like.shape, f"whole numbers, {count} functions")
    for name in (*OF_FUNCTIONS, *OF_CLUSTER, "now"):
        if memory[name].dtype.kind not in "fiu":
            raise SpecError(f"memory.{name}", str(memory[name].dtype), "numbers")
        infinite = name in TIMES  # of a function that was never called
        if np.isnan(memory[name]).any() or (not infinite and np.isinf(memory[name]).any()):
            raise SpecError(f"memory.{name}", "NaN or infinite", "numbers")
