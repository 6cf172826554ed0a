"""Where batches are decided from outside: a function may start one, so a decision is due."""

from __future__ import annotations

from stoker.envs.cluster.exclusive import taken
from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import NONE, fn_at, inst_at


@njit
def can_run(r, i):
    """Whether a batch could begin on instance i now; NONE cannot."""
    return i != NONE and not taken(r, inst_at(r["inst"], i)["gpu"])


@njit
def ask(r, f, i):
    """Stop the row for a decision on f if instance i could run its batch now."""
    if can_run(r, i):
        fn_at(r["fn"], f)["asked"] = 1
        r["pending"] = f
