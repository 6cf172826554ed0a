"""The rows of `stoker/Batching-v0`, whichever view looks at them.

Shapes: B rows, S slots for functions, A = 2 + Z actions (Z batch sizes).
Units: seconds; costs in requests and in latency targets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from stoker.envs.batch_problems import BatchProblems
from stoker.envs.cluster import engine
from stoker.envs.cluster.batch_due import BatchRows, Books, Due
from stoker.envs.cluster.batching import DROP, RUN, TERMS, WAIT
from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.observe_batch import BOUND
from stoker.envs.cluster.outcome import collect
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.problems import Problems
from stoker.envs.streams import RowStreams, Seed
from stoker.envs.workload import Workload

WEIGHTS = {"wait": 0.1, "late": 1.0, "drop": 1.0, "busy": 0.05}
"""Of the costs, unless others are given."""
Observation = NDArray[np.float32]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def legal(room: Ints, sizes: Ints) -> Bools:
    """Mark the legal actions of functions that could run so many requests now.

    To wait is legal always; the rest where a batch could start; a size where the next smaller one
    does not already take all. Shape: (...) -> (..., A)
    """
    smaller = np.concatenate([[0], sizes[:-1]])
    mask = np.ones((*room.shape, RUN + len(sizes)), np.bool_)
    mask[..., DROP] = room > 0
    mask[..., RUN:] = room[..., None] > smaller
    return mask


def legalised(actions: Ints, mask: Bools) -> tuple[Ints, Bools]:
    """Replace masked actions by the largest batch there is, else by waiting; mark which.

    Shapes: (...), (..., A) -> (...), (...)
    """
    clipped = ~np.take_along_axis(mask, actions[..., None], axis=-1)[..., 0]
    runs = mask[..., RUN:].sum(axis=-1)
    largest = np.where(runs > 0, RUN + runs - 1, WAIT)
    return np.where(clipped, largest, actions), clipped


class BatchingRows(VectorEnv[Observation, ArrayLike, NDArray[Any]], ABC):
    """What both views share; see `BatchingEnv` for the arguments."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012
    one: bool
    """Whether a step decides for the most urgent function alone."""

    def __init__(
        self,
        num_envs: int = 1,
        problems: Problems | None = None,
        *,
        max_functions: int | None = None,
        sizes: Sequence[int] = (1, 2, 4, 8, 16, 32),
        wait_share: float = 0.1,
        weights: dict[str, float] | None = None,
        warmup_s: float = 0.0,
        same_trace_groups: int = 1,
        copy: bool = True,
    ) -> None:
        self.problems: Problems = problems or BatchProblems()
        self.slots = self.problems.functions if max_functions is None else max_functions
        self._check(sizes, weights or {}, wait_share, warmup_s)
        for name, count in (("num_envs", num_envs), ("same_trace_groups", same_trace_groups)):
            require(count >= 1, name, count, "an integer >= 1")
        self.num_envs, self.wait_share, self.warmup_s = num_envs, float(wait_share), warmup_s
        self.sizes, self.copy = np.array(sizes, np.int64), copy
        self.weights = {**WEIGHTS, **(weights or {})}
        self.streams = RowStreams(self.problems, num_envs, same_trace_groups)
        books = Books.empty(num_envs, self.slots, self.one, self.sizes)
        self._books = [books, replace(books, observation=books.observation.copy())]
        self.single_observation_space = gym.spaces.Box(
            -BOUND, BOUND, books.observation.shape[1:], np.float32
        )
        self.single_action_space = self._actions()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._rows: BatchRows | None = None
        self._before, self._served = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        self._returned, self._length = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        self._scale = np.ones(num_envs)

    @property
    def rows(self) -> BatchRows:
        """What steps the simulation; exists after the first reset."""
        if self._rows is None:
            raise SpecError("reset", None, "to be called before the first step")
        return self._rows

    @property
    def sim(self) -> Simulation:
        """The simulation of the rows."""
        return self.rows.sim

    @property
    def due(self) -> Due:
        """Exact figures of the functions that are most urgent, for policies that are rules."""
        return self._books[0].due

    @abstractmethod
    def _actions(self) -> gym.spaces.Space[Any]:
        """Actions of one row."""

    @abstractmethod
    def _room(self) -> Ints:
        """Requests that a batch could take, where an action is asked for. Shape: (B,) or (B, S)"""

    @abstractmethod
    def _spread(self, actions: Ints) -> Ints:
        """Legal actions, one a slot. Shape: (B, S)"""

    def action_masks(self) -> Bools:
        """Legal actions of every row. Shape: (B, A) or (B, S * A)"""
        return legal(self._room(), self.sizes).reshape(self.num_envs, -1)

    def legalise(self, actions: ArrayLike) -> Ints:
        """Replace masked actions by those that are obeyed in their stead. Same shape."""
        return legalised(self._checked(actions), legal(self._room(), self.sizes))[0]

    def reset(
        self, *, seed: Seed = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start every row afresh: at the seed's first episode, or at each row's next one."""
        if self.streams.reseed(seed):
            super().reset(seed=self.streams.seeds[0])
        drawn = [self._draw(k) for k in range(self.num_envs)]
        if self._rows is None:
            sim = Simulation(
                [c for c, _ in drawn], [w for _, w in drawn], Rules(), warmup_s=self.warmup_s,
                functions=self.slots, gpus=self.problems.gpus,
            )  # fmt: skip
            self._rows = BatchRows(sim, self._books[0], self.one, self.wait_share)
        self._rows.books = self._books[0]
        self._books[0].clear()
        for k, (cluster, workload) in enumerate(drawn):
            self._load(k, cluster, workload)
        return self._seen(), {"action_mask": self.action_masks()}

    def step(self, actions: ArrayLike) -> tuple[Observation, Floats, Bools, Bools, dict[str, Any]]:
        """Decide where every row has stopped, and run on to where it stops next."""
        rows = self.rows
        obeyed, clipped = legalised(self._checked(actions), legal(self._room(), self.sizes))
        spread = self._spread(obeyed)
        self._books.reverse()
        rows.books = books = self._books[0]
        rows.run(spread)
        state = rows.sim.state.rows
        over = state["status"] == engine.OVER
        ended = np.flatnonzero(over)
        for k in ended.tolist():
            books.terms[k, TERMS.index("late")] += self._overdue(k)
        rewards, info = self._rewards()
        info["clipped"] = clipped.reshape(self.num_envs, -1).sum(axis=1)
        books.clear()
        if len(ended):
            self._next_episodes(ended, over, info)
        info["function"] = books.due.function.copy()
        info["action_mask"] = self.action_masks()
        never = np.zeros(self.num_envs, np.bool_)
        return self._seen(), rewards, never, over, info

    def _check(
        self, sizes: Sequence[int], weights: dict[str, float], wait_share: float, warmup_s: float
    ) -> None:
        unknown = sorted(set(weights) - set(TERMS))
        if unknown:
            raise SpecError("weights", unknown, " | ".join(TERMS))
        ascending = all(a < b for a, b in zip([0, *sizes], sizes, strict=False))
        if not sizes or not ascending:
            raise SpecError("sizes", tuple(sizes), "ascending integers >= 1")
        if self.slots < self.problems.functions:
            accepted = f">= {self.problems.functions} (functions of the problems)"
            raise SpecError("max_functions", self.slots, accepted)
        require(wait_share > 0.0, "wait_share", wait_share, "> 0; inf = no timer")
        require(0.0 <= warmup_s < np.inf, "warmup_s", warmup_s, "finite, >= 0")

    def _checked(self, actions: ArrayLike) -> Ints:
        """Return actions as integers, or say what is wrong with them."""
        asked, shape = np.asarray(actions), self.action_space.shape
        if asked.shape != shape:
            raise SpecError("action", f"shape {asked.shape}", f"shape {shape}")
        most = RUN + len(self.sizes) - 1
        if not np.issubdtype(asked.dtype, np.integer):
            raise SpecError("action", str(asked.dtype), f"integers 0..{most}")
        if asked.min() < 0 or asked.max() > most:
            worst = int(asked.min() if asked.min() < 0 else asked.max())
            raise SpecError("action", worst, f"integers 0..{most}")
        return asked.astype(np.int64, copy=False)

    def _draw(self, k: int) -> tuple[Cluster, Workload]:
        cluster, workload, _ = self.streams.draw(k)
        for f in cluster.functions:
            require(f.slo_s < np.inf, f"function[{f.name}].slo_s", f.slo_s, "finite here")
            require(f.llm is None, f"function[{f.name}].llm", f.llm, "none here")
        if self.warmup_s >= workload.horizon_s:
            raise SpecError("warmup_s", self.warmup_s, f"< {workload.horizon_s:g} (the horizon)")
        return cluster, workload

    def _load(self, k: int, cluster: Cluster, workload: Workload) -> None:
        """Give row k a problem and bring it to its first decision."""
        rows = self.rows
        rows.sim.load(k, cluster, workload, warmup_s=self.warmup_s)
        rows.books.observation[k] = 0.0
        rows.books.room[k] = 0
        rows.open(k, self.warmup_s)
        self._scale[k] = np.mean([f.slo_s for f in cluster.functions])
        row = rows.sim.state.rows[k]
        if row["status"] == engine.OVER:
            raise SpecError("problems", "an episode without a decision", "requests to decide on")
        self._before[k], self._served[k] = row["now"], row["served"]
        self._returned[k], self._length[k] = 0.0, 0

    def _seen(self) -> Observation:
        observation = self._books[0].observation
        return observation.copy() if self.copy else observation

    def _overdue(self, k: int) -> int:
        """Requests that run at row k's horizon, are late and have not been charged as such."""
        state = self.rows.sim.state
        load, req = state.workloads[k], state.req[k]
        runs = np.isfinite(req["start"]) & np.isnan(req["finish"])
        waited_s = state.rows[k]["horizon"] - load.arrival_s[runs]
        late = np.count_nonzero(waited_s > state.fn[k]["slo_s"][load.function[runs]])
        return int(late) - int(state.fn[k]["prepaid"].sum())

    def _rewards(self) -> tuple[Floats, dict[str, Any]]:
        """Sum the weighted costs of the step. Shapes: (B,)"""
        state, books = self.rows.sim.state.rows, self._books[0]
        costs = {name: books.terms[:, j].copy() for j, name in enumerate(TERMS)}
        terms = {name: -self.weights[name] * cost for name, cost in costs.items()}
        rewards: Floats = np.sum(list(terms.values()), axis=0)
        info: dict[str, Any] = {
            "reward_terms": terms,
            "costs": costs,
            "requests": books.counts[:, 0].copy(),
            "served": state["served"] - self._served,
            "void": books.counts[:, 1].copy(),
            "scale": self._scale.copy(),
            "dt": state["now"] - self._before,
        }
        self._before, self._served = state["now"].copy(), state["served"].copy()
        self._returned += rewards
        self._length += 1
        return rewards, info

    def _next_episodes(self, ended: Ints, over: Bools, info: dict[str, Any]) -> None:
        """Hand out what ended and start the next episode of those rows."""
        sim = self.rows.sim
        info["final_obs"], info["_final_obs"] = self._books[0].observation.copy(), over.copy()
        episode = {"r": self._returned.copy(), "l": self._length.copy()}
        episode["t"] = sim.state.rows["now"].copy()
        info["final_info"], info["_final_info"] = {"episode": episode}, over.copy()
        info["summary"] = [{} for _ in range(self.num_envs)]
        for k in ended.tolist():
            info["summary"][k] = collect(sim.state, sim.clusters[k], k).summary()
            self.streams.episode[k] += 1
            self._load(k, *self._draw(k))
