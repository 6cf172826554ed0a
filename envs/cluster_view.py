"""Cluster view: one agent a row decides for every function of a cluster at every tick.

Shapes: B rows, S slots (functions a row has room for), H levers, C features of the cluster.
Units: seconds; rewards in mean cold starts of the row's cluster.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import FaultRates, Faults, draw
from stoker.envs.cluster.observe_all import BOUND, SLOT, TICK, C, expire_hosts, observe_ticks
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.slo import SloMultipliers
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster_reward import COSTS, HELD, LATE, REQUESTS, add_queued, costs_of, tail_cost
from stoker.envs.episode_books import EpisodeBooks
from stoker.envs.late import LateObservations
from stoker.envs.levers import KeepAlive, Levers, Scene
from stoker.envs.problems import Problems, SyntheticProblems
from stoker.envs.streams import RowStreams, Seed
from stoker.envs.workload import Workload

Observation = NDArray[np.float32]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class ClusterVectorEnv(VectorEnv[Observation, ArrayLike, NDArray[Any]]):
    """B clusters, one decision for all their functions a tick. See docs/environments.

    Args:
        num_envs: rows.
        problems: where episodes come from.
        levers: what an action means; None = those of KeepAlive.
        max_functions: slots for functions in observation and action; None = what problems need.
        tick_s: seconds between decisions, at uncompressed time.
        rules: compiled rules; their plan must be that of the levers. None = the levers' own.
        weights: of the reward terms, by name; those left out are 1.
        slo_target: range of the share of requests that should be in time; drawn every episode.
        slo_rate: growth of the SLO multiplier an hour (see slo.py); 0 = no constraint.
        warmup_s: start of every episode, run under "keep all, evict under pressure" and left out
            of rewards and scores.
        same_trace_groups: so many neighbouring rows share every problem.
        faults: how often what goes wrong, drawn anew every episode, late and lost observations
            among it (late.py); None = nothing.
        copy: hand out a copy of the observation; False = one of two buffers that alternate.
        threads: over the rows.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012
    slot_columns, cluster_columns, spent_columns = SLOT, C, len(TICK)
    cost_names: tuple[str, ...] = COSTS

    def __init__(
        self,
        num_envs: int = 1,
        problems: Problems | None = None,
        *,
        levers: Levers | None = None,
        max_functions: int | None = None,
        tick_s: float = 60.0,
        rules: Rules | None = None,
        weights: dict[str, float] | None = None,
        slo_target: tuple[float, float] = (0.9, 0.99),
        slo_rate: float = 1.0,
        warmup_s: float = 0.0,
        same_trace_groups: int = 1,
        faults: FaultRates | None = None,
        copy: bool = True,
        threads: int = 1,
    ) -> None:
        self.levers = levers = levers or Levers(KeepAlive())
        self.problems: Problems = problems or SyntheticProblems()
        self.slots = self.problems.functions if max_functions is None else max_functions
        self.rules = rules or levers.rules
        self._check(num_envs, tick_s, weights or {}, warmup_s, same_trace_groups)
        self.num_envs, self.tick_s, self.warmup_s = num_envs, tick_s, warmup_s
        self.threads, self.copy = threads, copy
        self.fault_rates = faults
        self.weights = {**dict.fromkeys(self.cost_names, 1.0), **(weights or {})}
        self.slo = SloMultipliers(num_envs, slo_target, slo_rate)
        width = self.slots * self.slot_columns + self.cluster_columns
        self.single_observation_space = gym.spaces.Box(-BOUND, BOUND, (width,), np.float32)
        self.single_action_space = gym.spaces.MultiDiscrete(list(levers.choices) * self.slots)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._sim: Simulation | None = None
        self.streams = RowStreams(self.problems, num_envs, same_trace_groups)
        self._buffers = [np.zeros((num_envs, width), np.float32) for _ in range(2)]
        self.faults: list[Faults | None] = [None] * num_envs
        """What goes wrong in the present episode of every row."""
        late = faults is not None and faults.late
        self._late = LateObservations(num_envs, width) if late else None
        self.spent = np.zeros((num_envs, self.slots, self.spent_columns))
        """What each function has cost in the last tick, see TICK. Shape: (B, S, 9)."""
        self.final_spent = self.spent
        """The same of the tick in which a row last ended. Shape: (B, S, 9)."""
        self.cold_s = np.ones((num_envs, self.slots))
        """What one cold start of each function costs. Shape: (B, S)."""
        self.masks = np.zeros((num_envs, self.slots, sum(levers.choices)), np.bool_)
        self._scene = Scene.empty(num_envs, self.slots)
        self._scale, self._device_gib = np.ones(num_envs), np.ones(num_envs)
        self._began = np.zeros(num_envs)
        self._books = EpisodeBooks(num_envs)

    _scale: Floats
    """Mean cold cost of the row's cluster: s. Shape: (B,)."""
    _device_gib: Floats
    _began: Floats

    @property
    def sim(self) -> Simulation:
        """The simulation below; exists after the first reset."""
        if self._sim is None:
            raise SpecError("reset", None, "to be called before the first step")
        return self._sim

    def action_masks(self) -> Bools:
        """Legal choices of every row, slot after slot, lever after lever. Shape: (B, S * sum A)."""
        return self.masks.reshape(self.num_envs, -1).copy()

    def legalise(self, actions: ArrayLike) -> NDArray[np.int64]:
        """Replace masked choices by those that are obeyed in their stead. Shape: (B, S * H)."""
        asked = self.levers.check(actions, self.num_envs, self.slots)
        return self.levers.legalise(asked, self.masks)[0].reshape(self.num_envs, -1)

    def reset(
        self,
        *,
        seed: Seed = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Start every row afresh: at the seed's first episode, or at each row's next one."""
        if self.streams.reseed(seed):
            super().reset(seed=self.streams.seeds[0])
            self.slo.forget()
        drawn = [self._draw(k) for k in range(self.num_envs)]
        if self._sim is None:
            self._sim = Simulation(
                [c for c, _ in drawn], [w for _, w in drawn], self.rules, threads=self.threads,
                warmup_s=self.warmup_s, functions=self.slots, gpus=self.problems.gpus,
            )  # fmt: skip
        for k, (cluster, workload) in enumerate(drawn):
            self._load(k, cluster, workload)
        observation = self._observe(np.arange(self.num_envs))
        return self._hand_out(observation), {"action_mask": self.action_masks()}

    def step(self, actions: ArrayLike) -> tuple[Observation, Floats, Bools, Bools, dict[str, Any]]:
        """Decide for the coming tick of every row and run it."""
        sim = self.sim
        asked = self.levers.check(actions, self.num_envs, self.slots)
        legal, clipped = self.levers.legalise(asked, self.masks)
        before = sim.state.rows["now"].copy()
        sim.apply(self.levers.decide(legal, self._scene))
        expire_hosts(sim.state.rows)
        ends = self._run()
        over = sim.over
        self._buffers.reverse()
        observation = self._observe(np.arange(self.num_envs))
        ended = np.flatnonzero(over)
        tail, summaries = self._close(ended, ends)
        rewards, info = self._rewards(tail, sim.state.rows["now"] - before)
        info["clipped"] = clipped
        if len(ended):
            now_s, self.final_spent = sim.state.rows["now"], self.spent.copy()
            info.update(self._books.ended(ended, now_s, observation, summaries))
            self._next_episodes(ended)
        info["action_mask"] = self.action_masks()
        never = np.zeros(self.num_envs, np.bool_)
        return self._hand_out(observation), rewards, never, over, info

    def copy_row(self, source: int, target: int) -> None:
        """Put a row into the state of another one of its group; the episode's return is its own."""
        self.sim.state.copy_row(source, target)
        self.slo.copy_row(source, target)

    def _hand_out(self, observation: Observation) -> Observation:
        """What the agents see of the present."""
        if self._late is not None:
            return self._late.see(observation, self.sim.state.rows["now"])
        return observation.copy() if self.copy else observation

    def _check(
        self, rows: int, tick_s: float, weights: dict[str, float], warmup_s: float, groups: int
    ) -> None:
        unknown = sorted(set(weights) - set(self.cost_names))
        if unknown:
            raise SpecError("weights", unknown, " | ".join(self.cost_names))
        for name, count in (("num_envs", rows), ("same_trace_groups", groups)):
            if count < 1:
                raise SpecError(name, count, "an integer >= 1")
        if self.slots < self.problems.functions:
            accepted = f">= {self.problems.functions} (functions of the problems)"
            raise SpecError("max_functions", self.slots, accepted)
        if not (np.isfinite(tick_s) and tick_s > 0.0):
            raise SpecError("tick_s", tick_s, "finite, > 0")
        if not (np.isfinite(warmup_s) and warmup_s >= 0.0):
            raise SpecError("warmup_s", warmup_s, "finite, >= 0")
        if self.rules.plan != self.levers.rules.plan:
            accepted = f"{self.levers.rules.plan} (that of the levers)"
            raise SpecError("rules.plan", self.rules.plan, accepted)

    def _draw(self, k: int) -> tuple[Cluster, Workload]:
        """Draw the problem of row k's present episode, after it its SLO target and its faults."""
        cluster, workload, rng = self.streams.draw(k)
        if self.warmup_s >= workload.horizon_s:
            raise SpecError("warmup_s", self.warmup_s, f"< {workload.horizon_s:g} (the horizon)")
        self.slo.start(k, rng)
        if self.fault_rates is not None:
            self.faults[k] = made = draw(rng, cluster, workload.horizon_s, self.fault_rates)
            if self._late is not None:
                self._late.start(k, made)
        return cluster, workload

    def _load(self, k: int, cluster: Cluster, workload: Workload) -> None:
        """Give row k a problem and run its warm-up."""
        sim = self.sim
        sim.load(k, cluster, workload, warmup_s=self.warmup_s, faults=self.faults[k])
        sim.run_row(k, self.warmup_s)
        fn = sim.state.fn[k, : len(cluster.functions)]
        cold = fn["load_disk_s"] * (1.0 + sim.state.rows[k]["load_price"])
        self.cold_s[k, : len(fn)] = np.maximum(cold, 1e-6)
        self._scale[k] = self.cold_s[k, : len(fn)].mean()
        self._device_gib[k] = cluster.device_gib
        self.masks[k] = self.levers.mask(cluster, self.slots)
        self._scene.fill(k, cluster)
        self._books.restart(k)
        self._began[k] = sim.state.rows[k]["now"]

    def _run(self) -> Floats:
        """Run every row to the end of its tick or its horizon; return the ticks' ends. (B,)."""
        step = self.tick_s * self._scene.stretch
        ends: Floats = self._began + step * (self._books.length + 1.0)
        horizon = self.sim.state.rows["horizon"]
        until = np.where(horizon - ends < 1e-6 * step, horizon, ends)
        self.sim.run(until)
        return ends

    def _observe(self, which: NDArray[np.int64]) -> Observation:
        """Fill the current buffer and the books of some rows."""
        observation, slo = self._buffers[0], self.slo.state
        rows = self.sim.state.rows
        observe_ticks(rows, which, self.slots, observation, self.spent, slo)
        return observation

    def _close(
        self, over: NDArray[np.int64], ends: Floats
    ) -> tuple[Floats, list[dict[str, float]]]:
        """Close the books of rows at their horizon: tail costs (B,) and a summary each."""
        state = self.sim.state
        tail = np.zeros(self.num_envs)
        summaries = []
        for k in over.tolist():
            result = self.sim.result(k)
            row, fn = state.rows[k], state.fn[k, : int(state.rows[k]["fns"])]
            add_queued(self.spent[k, : len(fn)], row, result)
            tail[k] = tail_cost(row, fn, float(ends[k])).sum()
            summaries.append(result.summary())
        return tail, summaries

    def _rewards(self, tail: Floats, dt: Floats) -> tuple[Floats, dict[str, Any]]:
        """Sum the weighted terms of the tick, and let the multipliers learn. Shapes: (B,)."""
        tick, slo = self.spent.sum(axis=1), self.slo
        costs, excess = costs_of(tick, tail, slo, self._scale)
        terms = {name: -self.weights[name] * cost for name, cost in costs.items()}
        rewards: Floats = np.sum(list(terms.values()), axis=0)
        info: dict[str, Any] = {
            "reward_terms": terms,
            "cost_slo": excess,
            "cost_memory": tick[:, HELD] / (self._device_gib * dt),
            "late": tick[:, LATE].copy(),
            "requests": tick[:, REQUESTS].copy(),
            "slo_target": slo.state[:, 0].copy(),
            "slo_multiplier": slo.state[:, 1].copy(),
            "scale": self._scale.copy(),
            "dt": dt,
        }
        slo.learn(tick[:, LATE], tick[:, REQUESTS], dt / self._scene.stretch / 3600.0)
        self._books.add(rewards)
        return rewards, info

    def _next_episodes(self, over: NDArray[np.int64]) -> None:
        """Start the next episode of the rows that ended."""
        for k in over.tolist():
            self.streams.episode[k] += 1
            self._load(k, *self._draw(k))
        self._observe(over)
