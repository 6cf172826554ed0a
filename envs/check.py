"""A checker for batched environments, which Gymnasium has none for.

    check_vector_env(lambda rows: gym.make_vec("stoker/KeepAlive-v0", num_envs=rows))

Shapes: B rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

Env = VectorEnv[Any, Any, Any]
Make = Callable[[int], Env]
SEED = 7


class CheckError(AssertionError):
    """A vector environment breaks its contract."""


def check_vector_env(make: Make, *, rows: Sequence[int] = (1, 64, 256), steps: int = 24) -> None:
    """Raise CheckError unless the environment keeps the contract of Gymnasium and Stoker.

    Checked: shapes, dtypes and spaces; the same seed gives the same bytes; rows do not depend on
    their number; no array is handed out twice; autoreset in the same step with the last
    observation in `final_obs`; legal actions are obeyed, masked ones replaced and counted.

    Args:
        make: builds the environment with so many rows.
        rows: numbers of rows to compare.
        steps: steps of the comparisons; episodes are played out once besides.
    """
    check_spaces(make(3))
    check_determinism(make, steps)
    check_rows(make, rows, steps)
    check_aliasing(make(2))
    check_autoreset(make(2))
    check_masks(make, steps)


def check_spaces(env: Env, steps: int = 5) -> None:
    """Shapes, dtypes and membership of what reset and step return."""
    mode = env.metadata.get("autoreset_mode")
    _require(mode is AutoresetMode.SAME_STEP, f"metadata['autoreset_mode'] is {mode}")
    observation, info = env.reset(seed=SEED)
    _require(isinstance(info, dict), "reset returns no info dict")
    _in_space(env, observation)
    for n in range(steps):
        observation, rewards, terminated, truncated, info = env.step(_actions(env, n))
        _in_space(env, observation)
        _require(rewards.shape == (env.num_envs,), f"rewards have shape {rewards.shape}")
        _require(rewards.dtype == np.float64, f"rewards have dtype {rewards.dtype}")
        _require(bool(np.isfinite(rewards).all()), "a reward is not finite")
        for name, flags in (("terminated", terminated), ("truncated", truncated)):
            ok = flags.shape == (env.num_envs,) and flags.dtype == np.bool_
            _require(ok, f"{name} has shape {flags.shape} and dtype {flags.dtype}")
        _require(bool((info["dt"] >= 0.0).all()), "info['dt'] is negative")


def check_determinism(make: Make, steps: int) -> None:
    """The same seed gives the same bytes, on a fresh object and on a used one."""
    env = make(2)
    first = rollout(env, steps, SEED)
    _require(first == rollout(make(2), steps, SEED), "two environments of one seed differ")
    _require(first == rollout(env, steps, SEED), "a second reset with the same seed differs")
    _require(first != rollout(env, steps, SEED + 1), "the seed changes nothing")


def check_rows(make: Make, rows: Sequence[int], steps: int) -> None:
    """Rows that two numbers of rows have in common give the same bytes."""
    digests = [rollout(make(b), steps, SEED) for b in rows]
    seen = list(zip(rows, digests, strict=True))
    for (a, left), (b, right) in pairwise(seen):
        common = min(a, b)
        _require(left[:common] == right[:common], f"rows differ between {a} and {b} rows")


def check_aliasing(env: Env) -> None:
    """What one step has handed out stays as it was during the next ones."""
    handed: list[tuple[NDArray[Any], bytes]] = []
    observation, info = env.reset(seed=SEED)
    handed += [(a, a.tobytes()) for a in _arrays([observation, info])]
    for n in range(4):
        out = env.step(_actions(env, n))
        handed += [(a, a.tobytes()) for a in _arrays(list(out))]
    _require(all(a.tobytes() == before for a, before in handed), "a later step changes an array")


def check_autoreset(env: Env, limit: int = 100_000) -> None:
    """At an episode's end the last observation is in final_obs and the next episode has begun."""
    env.reset(seed=SEED)
    for n in range(limit):
        observation, _, terminated, truncated, info = env.step(_actions(env, n))
        done = terminated | truncated
        if not done.any():
            _require("final_obs" not in info, "final_obs without an end of an episode")
            continue
        mask, final = info["_final_obs"], info["final_obs"]
        _require(bool((mask == done).all()), "_final_obs does not mark the rows that ended")
        ok = isinstance(final, np.ndarray) and final.shape == env.observation_space.shape
        _require(ok and final.dtype == np.float32, "final_obs is no dense array of observations")
        _in_space(env, observation)
        _require(len(info["summary"]) == env.num_envs, "summary has not one entry a row")
        _require(all(bool(info["summary"][k]) == bool(done[k]) for k in range(env.num_envs)),
                 "summary is not where episodes ended")  # fmt: skip
        env.step(_actions(env, n + 1))
        return
    raise CheckError(f"no episode ended in {limit} steps")


def check_masks(make: Make, steps: int) -> None:
    """Masked actions act as the legal ones that replace them, and only they are counted."""
    asked, obeyed = make(3), make(3)
    if not hasattr(asked, "action_masks"):
        return
    asked.reset(seed=SEED)
    obeyed.reset(seed=SEED)
    for n in range(steps):
        masks = asked.action_masks()
        wild = _actions(asked, n)
        legal = np.asarray(obeyed.legalise(wild))  # type: ignore[attr-defined]
        _require(bool((legal == wild)[_allowed(asked, wild, masks).reshape(wild.shape)].all()),
                 "a legal action is replaced")  # fmt: skip
        _require(
            bool(_allowed(asked, legal, masks).all()), "a masked action is replaced by a masked one"
        )
        left, other = asked.step(wild), obeyed.step(legal)
        _require(_same(left[:4], other[:4]), "a masked action is not obeyed as its replacement")
        counted = left[4]["clipped"] == (~_allowed(asked, wild, masks)).sum(axis=1)
        _require(bool(counted.all()), "info['clipped'] does not count the masked actions")
        _require(bool((other[4]["clipped"] == 0).all()), "a legal action is counted as clipped")


def rollout(env: Env, steps: int, seed: int) -> list[str]:
    """Play fixed random actions; return a digest of what each row has seen. Length B."""
    digests = [hashlib.sha256() for _ in range(env.num_envs)]
    observation, _ = env.reset(seed=seed)
    for k, digest in enumerate(digests):
        digest.update(observation[k].tobytes())
    for n in range(steps):
        out = env.step(_actions(env, n))
        for k, digest in enumerate(digests):
            for part in out[:4]:
                digest.update(np.ascontiguousarray(part[k]).tobytes())
    return [digest.hexdigest() for digest in digests]


def _actions(env: Env, n: int) -> NDArray[np.int64]:
    """Random actions of step n; a row's do not depend on the number of rows."""
    high = _choices(env.single_action_space)
    rng = np.random.default_rng([SEED, n])
    drawn: NDArray[np.int64] = rng.integers(0, high, (env.num_envs, *high.shape))
    return drawn


def _allowed(env: Env, actions: NDArray[np.int64], masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a mask allows each entry: the flags of all choices, entry after entry.

    Shapes: (B, S) or (B,), (B, sum A) -> (B, S)
    """
    choices = _choices(env.single_action_space).reshape(-1)
    entries = actions.reshape(len(actions), -1)
    allowed: NDArray[np.bool_] = np.take_along_axis(
        masks, entries + choices.cumsum() - choices, axis=1
    )
    return allowed


def _choices(space: gym.Space[Any]) -> NDArray[np.int64]:
    """How many choices an action's entries have. Shape: (S,) or ()"""
    if isinstance(space, gym.spaces.MultiDiscrete):
        return np.asarray(space.nvec, np.int64)
    assert isinstance(space, gym.spaces.Discrete)
    return np.asarray(space.n, np.int64)


def _in_space(env: Env, observation: NDArray[np.float32]) -> None:
    space = env.observation_space
    right = observation.shape == space.shape and observation.dtype == space.dtype
    _require(right, f"observation has shape {observation.shape} and dtype {observation.dtype}")
    _require(space.contains(observation), "an observation lies outside its space")


def _arrays(data: Any) -> list[NDArray[Any]]:
    """Every array in nested dicts and lists."""
    if isinstance(data, np.ndarray):
        return [data]
    parts = list(data.values()) if isinstance(data, dict) else data
    return [a for part in parts for a in _arrays(part)] if isinstance(parts, list) else []


def _same(left: Sequence[Any], right: Sequence[Any]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CheckError(message)
