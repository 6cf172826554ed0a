"""How much longer (or shorter) a load takes than it should: factors drawn beforehand.

Loads of a function take theirs in the order in which they begin, whatever else happens, so that two
policies meet the same luck. (Those of batches stand by request; see service_time.py.)
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import f8_at, fn_at

FACTORS = 8192
"""Factors drawn for the loads of an episode."""
STRIDE = 1597
"""Functions begin so many factors apart, and begin again after the last one."""


@njit
def load_noise(r, f):
    """The factor of the load of f that begins now."""
    fn = fn_at(r["fn"], f)
    k = (f * STRIDE + fn["loads"]) % FACTORS
    fn["loads"] += 1
    return f8_at(r["load_noise"], k)["v"]
