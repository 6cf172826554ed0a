"""Classes of GPU: which a function may use, and its service times there.  Units: seconds."""

from __future__ import annotations

from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.tables import NONE, cf_at, gpu_at


@hot
def suits(fn, gpu):
    """Whether the function's orders allow this class of GPU."""
    return fn["gpu_class"] == NONE or fn["gpu_class"] == gpu["kind"]


@njit
def times_on(r, f, g):
    """The record of f's service times on GPU g: `alpha_s` and `beta_s`."""
    return cf_at(r["cf"], gpu_at(r["gpu"], g)["kind"] * r["fns"] + f)
