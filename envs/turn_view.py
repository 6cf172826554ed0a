"""Function view of environments with ticks: the functions of a cluster take turns at every tick.

A step asks about one function of each of B clusters; when all have been asked, the clusters run to
the next tick. The policy is one for all functions, with one joint Discrete action. The reward that
a step returns belongs to the function's choice at the last tick: what its own requests waited and
what it held, with the online price of that memory, in cold starts of that function. The discount
across steps is 0.

Shapes: B rows, S slots, K columns of a slot, C of the cluster, H levers.  Units: seconds.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import FaultRates
from stoker.envs.cluster.idle import WORST
from stoker.envs.cluster.observe_all import BOUND
from stoker.envs.cluster.spec import Rules
from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.function_view import term_weights
from stoker.envs.levers import Levers
from stoker.envs.problems import Problems
from stoker.envs.streams import Seed


class TurnVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]):
    """B clusters whose S slots are asked one after the other.

    Args:
        num_envs: rows.
        problems: where episodes come from.
        levers: what an action means: the choices of all levers as one number, the last fastest.
        tick_s: seconds between ticks, at uncompressed time.
        rules: compiled rules; their plan must be that of the levers. None = the levers' own.
        weights: of the terms of idle.py, by name; those left out are 1.
        warmup_s: start of every episode that is not scored.
        same_trace_groups: so many neighbouring rows share every problem.
        faults: how often what goes wrong; None = nothing.
        threads: over the rows.

    `info` of a step: `function` asked next, `closes` (number of the choice that the reward belongs
    to, -1 = none), `terms` (B, 6), `scale`, `dt`, `clipped`, `action_mask`; where an episode ends
    also `final_obs`, `final_terms` (sums over the episode) and `summary`.
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
        levers: Levers | None = None,
        tick_s: float = 60.0,
        rules: Rules | None = None,
        weights: dict[str, float] | None = None,
        warmup_s: float = 0.0,
        same_trace_groups: int = 1,
        faults: FaultRates | None = None,
        threads: int = 1,
    ) -> None:
        self.weights = term_weights(weights)
        core = ClusterVectorEnv(
            num_envs, problems, levers=levers, tick_s=tick_s, rules=rules, slo_rate=0.0,
            warmup_s=warmup_s, same_trace_groups=same_trace_groups, faults=faults, copy=False,
            threads=threads,
        )  # fmt: skip
        self._take_over(core)

    def _take_over(self, core: ClusterVectorEnv) -> None:
        """Ask about the functions of these clusters, whose observations are not copied."""
        self.core, self.num_envs, self.slots = core, core.num_envs, core.slots
        self._choices, self._slot, self._shared = (
            core.levers.choices, core.slot_columns, core.cluster_columns,
        )  # fmt: skip
        box = gym.spaces.Box(-BOUND, BOUND, (self._slot + self._shared,), np.float32)
        self.single_observation_space = box
        self.single_action_space = gym.spaces.Discrete(int(np.prod(self._choices)))
        self.observation_space = batch_space(box, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: Seed = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start every row afresh."""
        self._seen, _ = self.core.reset(seed=seed)
        self._turn, self._made = 0, np.zeros(self.num_envs, np.int64)
        self._asked = np.zeros((self.num_envs, self.slots, len(self._choices)), np.int64)
        self._totals = np.zeros((self.num_envs, len(self.weights)))
        self.core.spent[:] = 0.0
        return self._observe(), self._info(np.zeros(self.num_envs))

    def action_masks(self) -> NDArray[np.bool_]:
        """Legal joint choices of the function asked. Shape: (B, A)"""
        flags = self.core.action_masks().reshape(self.num_envs, self.slots, -1)[:, self._turn]
        return self.core.levers.joint(flags)

    def legalise(self, actions: ArrayLike) -> NDArray[np.int64]:
        """Replace masked choices by those that are obeyed in their stead. Shape: (B,)"""
        asked = np.zeros((self.num_envs, self.slots, len(self._choices)), np.int64)
        asked[:, self._turn] = self._parts(np.asarray(actions))
        legal, _ = self.core.levers.legalise(asked, self.core.masks)
        joint: NDArray[np.int64] = np.ravel_multi_index(
            tuple(np.moveaxis(legal[:, self._turn], 1, 0)), self._choices
        )
        return joint

    def _parts(self, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The levers' choices in a joint one. Shapes: (B,) -> (B, H)"""
        return np.stack(np.unravel_index(actions, self._choices), axis=-1)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Note the choice for the function asked; after the last one of a tick, run it."""
        action = np.asarray(actions)
        legal = int(np.prod(self._choices))
        if action.shape != (self.num_envs,) or not np.issubdtype(action.dtype, np.integer):
            given = f"{action.dtype} {action.shape}"
            raise SpecError("action", given, f"integers ({self.num_envs},)")
        if action.min() < 0 or action.max() >= legal:
            worst = int(action.min() if action.min() < 0 else action.max())
            raise SpecError("action", worst, f"0..{legal - 1}")
        clipped = ~self._mask[np.arange(self.num_envs), action]
        self._asked[:, self._turn] = self._parts(action)
        self._turn += 1
        over, dt = np.zeros(self.num_envs, np.bool_), np.zeros(self.num_envs)
        ended: dict[str, Any] = {}
        if self._turn == self.slots:
            over, dt, ended = self._tick()
        info = self._info(dt) | ended
        info["clipped"] = clipped.astype(np.int64)
        rewards = self._rewards(info)
        rewards[info["closes"] < 0] = 0.0
        return self._observe(), rewards, np.zeros(self.num_envs, np.bool_), over, info

    def _rewards(self, info: dict[str, Any]) -> NDArray[np.float64]:
        """What the function asked has cost, in its own cold starts. Shape: (B,)"""
        cost = (info["terms"] * self.weights).sum(axis=1) / info["scale"]
        rewards: NDArray[np.float64] = -np.minimum(cost, WORST)
        return rewards

    def _tick(self) -> tuple[NDArray[np.bool_], NDArray[np.float64], dict[str, Any]]:
        """Run all clusters to the next tick; return who ended, how long it took, what they tell."""
        legal, _ = self.core.levers.legalise(self._asked, self.core.masks)
        self._seen, _, _, over, told = self.core.step(legal.reshape(self.num_envs, -1))
        self._turn = 0
        self._made += self.slots
        spent = self.core.spent
        ended: dict[str, Any] = {}
        if over.any():
            spent = np.where(over[:, None, None], self.core.final_spent, spent)
        self._totals += spent[:, :, : len(self.weights)].sum(axis=1)
        if over.any():
            seen = told["final_obs"]
            last = seen[:, : self._slot], seen[:, -self._shared :]
            ended = {
                "final_obs": np.concatenate(last, axis=1),
                "_final_obs": over,
                "final_terms": np.where(over[:, None], self._totals, 0.0),
                "summary": told["summary"],
            }
            self._totals[over] = 0.0
            self._made[over] = 0
            self.core.spent[over] = 0.0
        return over, told["dt"], ended

    def _observe(self) -> NDArray[np.float32]:
        """The slot of the function asked, then the cluster. Shape: (B, K + C)"""
        seen, first = self._seen, self._turn * self._slot
        return np.concatenate(
            [seen[:, first : first + self._slot], seen[:, -self._shared :]], axis=1
        )

    def _info(self, dt: NDArray[np.float64]) -> dict[str, Any]:
        """What the function asked has cost since it was asked last. Shapes: (B, ...)"""
        there = self._seen[:, self._turn * self._slot] == 1.0
        closes = self._made - self.slots + self._turn
        self._mask = self.action_masks()
        return {
            "function": np.full(self.num_envs, self._turn),
            "closes": np.where(there & (self._made > 0), closes, -1),
            "terms": self.core.spent[:, self._turn, : len(self.weights)].copy(),
            "scale": self.core.cold_s[:, self._turn].copy(),
            "dt": dt,
            "action_mask": self._mask.copy(),
        }
