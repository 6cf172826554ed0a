"""Observations that are kept with a run: exported graphs are checked on them.

Shapes: N rows of the environment, K columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

STORED = 4096


def collect(model: BaseAlgorithm, env: VecEnv) -> NDArray[np.float32]:
    """Play on under the policy, chance included, for STORED observations. Shape: (STORED, K)"""
    seen = np.asarray(env.reset(), np.float32)
    kept, count = [seen.copy()], len(seen)
    while count < STORED:
        action, _ = model.predict(seen, deterministic=False)
        seen = np.asarray(env.step(action)[0], np.float32)
        kept.append(seen.copy())
        count += len(seen)
    return np.concatenate(kept)[:STORED]
