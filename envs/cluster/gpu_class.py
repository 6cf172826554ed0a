"""Service times of a function on the class of a GPU.  Units: seconds."""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import cf_at, gpu_at


@njit
def times_on(r, f, g):
    """The record of f's service times on GPU g: `alpha_s` and `beta_s`."""
    return cf_at(r["cf"], gpu_at(r["gpu"], g)["kind"] * r["fns"] + f)
