"""Function view: every step is one event "a function becomes idle" in each of B clusters.

All functions share one small policy with one joint Discrete action. The reward that a step returns
belongs to the decision that this event closes: the same function's last one. Costs of other
functions reach it only through the online prices of memory and of the load link, so the discount
across events is 0.

Shapes: B rows, F functions, K features, E experts, A actions.
Units: seconds; rewards in cold starts of the function concerned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from stoker.envs.cluster import engine
from stoker.envs.cluster.decision import IdlePlan
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import FaultRates, Faults, draw
from stoker.envs.cluster.idle import TERMS, close_episode, pay_rows
from stoker.envs.cluster.observe import K
from stoker.envs.cluster.observe_all import BOUND
from stoker.envs.cluster.outcome import collect
from stoker.envs.cluster.pending import Pending
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster.tables import EXPERTS
from stoker.envs.problems import Problems, SyntheticProblems, stream
from stoker.envs.workload import Workload

MULTIPLIERS = (1.0 / 5.0, 1.0 / 2.2, 1.0, 2.2, 5.0)
"""On the hazard index."""
VARIANTS = 3
"""Of the plan: as the heuristic, no prewarm, eager prewarm."""
ACTIONS = len(MULTIPLIERS) * VARIANTS
NEUTRAL = MULTIPLIERS.index(1.0) * VARIANTS
"""The action that leaves the heuristic as it is."""
_MULTIPLIER_OF = np.repeat(MULTIPLIERS, VARIANTS)
_VARIANT_OF = np.tile(np.arange(VARIANTS), len(MULTIPLIERS))
Mix = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def own_history(observation: NDArray[np.float32]) -> NDArray[np.float64]:
    """The heuristic's forecast: the first expert alone. Shapes: (N, K) -> (N, E)"""
    mix = np.zeros((len(observation), EXPERTS))
    mix[:, 0] = 1.0
    return mix


def plan_of(action: NDArray[np.int64], mix: NDArray[np.float64]) -> IdlePlan:
    """What an action means: its multiplier and its variant of the plan. Shape: (N,)"""
    return IdlePlan(mix, _MULTIPLIER_OF.take(action), _VARIANT_OF.take(action))


def term_weights(weights: dict[str, float] | None) -> NDArray[np.float64]:
    """Weights of the reward's terms in their order; those left out are 1. Shape: (6,)"""
    unknown = set(weights or {}) - set(TERMS)
    if unknown:
        raise SpecError("weights", sorted(unknown), " | ".join(TERMS))
    return np.array([(weights or {}).get(name, 1.0) for name in TERMS])


class FunctionVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]):
    """B clusters, one pending decision each.

    Args:
        num_envs: rows.
        problems: where episodes come from.
        mix: forecast head; None = the heuristic's.
        rules: compiled rules; must evict and plan by the hazard index.
        weights: of the reward terms, by name; those left out are 1.
        warmup_s: start of every episode, run under the heuristic and left out of scores.
        same_trace_groups: so many neighbouring rows share every problem.
        faults: how often what goes wrong, drawn anew every episode; None = nothing. Observations
            are never late.
        threads: over the rows.

    `info` of a step: `function`, `closes` (number of the decision that the reward belongs to, -1 =
    none), `terms` (B, 6), `likelihood` (B, E), `scale`, `dt`; where an episode ends also
    `final_obs`, `final_terms` (sums over the episode) and `summary`, a list of dicts.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by the base class
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": [],
    }

    def __init__(
        self,
        num_envs: int = 1,
        problems: Problems | None = None,
        *,
        mix: Mix | None = None,
        rules: Rules | None = None,
        weights: dict[str, float] | None = None,
        warmup_s: float = 0.0,
        same_trace_groups: int = 1,
        faults: FaultRates | None = None,
        threads: int = 1,
    ) -> None:
        if faults is not None and faults.late:
            raise SpecError("faults.telemetry_delay_s, telemetry_loss", faults, "0 here")
        self.fault_rates = faults
        if num_envs < 1:
            raise SpecError("num_envs", num_envs, "an integer >= 1")
        self.num_envs = num_envs
        self.problems: Problems = problems or SyntheticProblems()
        self.mix = mix or own_history
        self.rules = rules or Rules(eviction="hazard", plan="hazard")
        self.weights = term_weights(weights)
        self.warmup_s, self.groups, self.threads = warmup_s, same_trace_groups, threads
        self.single_observation_space = gym.spaces.Box(-BOUND, BOUND, (K,), np.float32)
        self.single_action_space = gym.spaces.Discrete(ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._sim: Simulation | None = None
        self._seed = 0

    @property
    def sim(self) -> Simulation:
        """The simulation below; exists after the first reset."""
        if self._sim is None:
            raise SpecError("reset", None, "to be called before the first step")
        return self._sim

    @property
    def simulated(self) -> int:
        """Requests simulated since the last reset, warm-up included, over all rows."""
        return self._past + int(self.sim.state.rows["next_req"].sum())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start every row afresh."""
        self._seed = self._seed + 1 if seed is None else int(seed)
        self._episode = np.zeros(self.num_envs, np.int64)
        drawn = [self._draw(k) for k in range(self.num_envs)]
        self._sim = Simulation(
            [c for c, _, _ in drawn], [w for _, w, _ in drawn], self.rules, threads=self.threads,
            warmup_s=self.warmup_s, functions=self.problems.functions, gpus=self.problems.gpus,
            faults=[faults for _, _, faults in drawn],
        )  # fmt: skip
        self._totals = np.zeros((self.num_envs, len(TERMS)))
        self._past = 0
        self._before = np.zeros(self.num_envs)
        self._sim.run(self.warmup_s)
        for k in range(self.num_envs):
            self._forget(k)
        self._sim.state.rows["pause"] = 1
        self._advance(None)
        pending = self._sim.pending
        self._totals += pending.terms
        return pending.observation, self._info(pending, np.zeros(self.num_envs, bool))

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Decide for the pending function of every row and run on to the next one."""
        action = np.asarray(actions)
        if action.shape != (self.num_envs,) or action.dtype.kind not in "iu":
            raise SpecError(
                "action", f"{action.dtype} {action.shape}", f"integers ({self.num_envs},)"
            )
        least, most = int(action.min()), int(action.max())
        if least < 0 or most >= ACTIONS:
            raise SpecError("action", least if least < 0 else most, f"0..{ACTIONS - 1}")
        sim = self.sim
        over = self._advance(plan_of(action, self._mixed))
        pending, rewards = sim.pending, np.empty(self.num_envs)
        pay_rows(pending.terms, pending.closes, pending.scale, self.weights, self._totals, rewards)
        info = self._info(pending, over)
        never = np.zeros(self.num_envs, bool)
        return pending.observation, rewards, never, over, info

    def _draw(self, k: int) -> tuple[Cluster, Workload, Faults | None]:
        rng = stream(self._seed, k // self.groups, int(self._episode[k]))
        cluster, workload = self.problems.sample(rng)
        if self.fault_rates is None:
            return cluster, workload, None
        return cluster, workload, draw(rng, cluster, workload.horizon_s, self.fault_rates)

    def _advance(self, plan: IdlePlan | None) -> NDArray[np.bool_]:
        """Run every row to its next decision, through the ends of episodes; return who ended."""
        sim = self.sim
        over = np.zeros(self.num_envs, bool)
        self._ended: dict[int, tuple[NDArray[np.float64], dict[str, float]]] = {}
        sim.pending = Pending.unfilled(self.num_envs)
        while sim.run_on(plan) & 1 << engine.OVER:
            for k in np.flatnonzero(sim.over).tolist():
                self._finish(k)
                over[k] = True
            plan = None
        self._mixed = self.mix(sim.pending.observation)
        return over

    def _finish(self, k: int) -> None:
        """Close row k's episode and start its next one, up to its first decision."""
        sim = self.sim
        f = sim.state.fn.shape[1]
        terms, scale = np.zeros((f, len(TERMS))), np.ones(f)
        closes, survival = np.full(f, -1), np.zeros(f, np.int64)
        close_episode(sim.state.rows, k, terms, closes, np.zeros((f, EXPERTS)), scale, survival)
        summary = collect(sim.state, sim.clusters[k], k).summary()
        self._ended[k] = (self._totals[k] + terms.sum(axis=0), summary)
        self._totals[k] = 0.0
        self._episode[k] += 1
        self._past += int(sim.state.rows[k]["next_req"])
        cluster, workload, faults = self._draw(k)
        sim.load(k, cluster, workload, warmup_s=self.warmup_s, faults=faults)
        sim.run_row(k, self.warmup_s)
        self._forget(k)
        sim.state.rows[k]["pause"] = 1

    def _forget(self, k: int) -> None:
        """Leave what the warm-up has cost out of the books of row k."""
        fn = self.sim.state.fn[k]
        for name in ("wait_s", "gib_s", "host_gib_s", "rent", "shadow", "load_s", "drops"):
            fn[f"acc_{name}"] = 0
        fn["held_t"] = self.sim.state.rows[k]["now"]
        fn["held_price"] = self.sim.state.rows[k]["price_sum"]

    def _info(self, pending: Pending, over: NDArray[np.bool_]) -> dict[str, Any]:
        dt = pending.now_s - self._before
        self._before = pending.now_s
        info: dict[str, Any] = {
            "function": pending.function,
            "closes": pending.closes,
            "terms": pending.terms,
            "likelihood": pending.likelihood,
            "scale": pending.scale,
            "dt": dt,
        }
        if self._ended:
            dt[over] = 0.0
            info["final_obs"], info["_final_obs"] = pending.observation.copy(), over
            info["final_terms"] = np.zeros((self.num_envs, len(TERMS)))
            info["summary"] = [{} for _ in range(self.num_envs)]
            for k, (terms, summary) in self._ended.items():
                info["final_terms"][k], info["summary"][k] = terms, summary
        return info
