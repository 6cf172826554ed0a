"""A linear residual on the hazard index, evaluated in compiled code.

Rule: multiplier = exp(clip(theta . features + bias, -2, 2)), set whenever a function becomes idle.
For trainers that need many whole-trace evaluations (cross-entropy method); zero is the heuristic.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.observe import observe
from stoker.envs.cluster.tables import SCALAR_COUNT, f8_at, fn_at, scratch_at

LIMIT = 2.0
"""Largest absolute log-multiplier."""


@njit
def residual_multiplier(r, f, t):
    """Set the multiplier of f, which has become idle at t, from row r's weights."""
    features = scratch_at(r["scratch"], 0)["features"]
    observe(r, f, t, features)
    total = f8_at(r["theta"], SCALAR_COUNT)["v"]
    for k in range(SCALAR_COUNT):
        total += f8_at(r["theta"], k)["v"] * features[k]
    fn_at(r["fn"], f)["multiplier"] = math.exp(max(-LIMIT, min(LIMIT, total)))
