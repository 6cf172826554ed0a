"""The functions of B clusters as the rows of one stable-baselines3 environment, a tick a step.

What a learner wants of the ids with ticks: one small policy for all functions, and a reward
that comes with the next step. Alone (`team=0`) it is that of the function view: minus the row's own
costs and the online price of the memory that it held, in its own cold starts. With a team share the
row pays for others in place of the price of memory: minus (1 - team) x its own billed costs and
team x those of its whole cluster, in mean cold starts of that.
With `groups` > 1 neighbouring clusters run the same traffic and every reward is taken against the
mean of the group's for the same function: what the traffic alone makes dear falls out.

Shapes: B clusters, S slots, N = B * S rows, H levers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from stoker.envs.cluster.idle import TERMS, WORST
from stoker.envs.cluster.observe_all import BOUND, SLOT, C
from stoker.envs.cluster.tick_observer import by_function
from stoker.envs.cluster_view import ClusterVectorEnv

Indices = int | Iterable[int] | None
BILLED = TERMS.index("shadow")
"""The terms before it are paid for; the online price of memory, which comes last, is not."""


class FunctionRows(VecEnv):
    """Rows over a cluster view made with `slo_rate=0` and `copy=False`.

    Args:
        core: the cluster view.
        team: share of the cluster's costs in a row's reward.
        groups: neighbouring clusters that share every problem, as the core was told.
    """

    def __init__(self, core: ClusterVectorEnv, team: float = 0.0, groups: int = 1) -> None:
        self.core, self._team, self._groups = core, team, groups
        self.told: dict[str, Any] = {}
        """What the core told of the last tick."""
        self.terms: NDArray[np.float64] = np.zeros(len(TERMS))
        """Mean cost of a row in the last tick, by term, in cold starts of its function."""
        self.spent: NDArray[np.float64] = np.zeros((core.num_envs, core.slots, len(TERMS)))
        """What each function cost in the last tick: s. Shape: (B, S, 6)"""
        self._choices = core.levers.choices
        self._seed: int | None = None
        box = gym.spaces.Box(-BOUND, BOUND, (SLOT + C,), np.float32)
        joint = gym.spaces.Discrete(int(np.prod(self._choices)))
        self.render_mode = None
        super().__init__(core.num_envs * core.slots, box, joint)

    def reset(self) -> NDArray[np.float32]:
        """Start every cluster afresh."""
        seen, self.told = self.core.reset(seed=self._seed)
        self._seed = None
        return by_function(seen)

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the joint choices. Shape: (N,)"""
        self._actions = actions

    def step_wait(self) -> Any:
        """Run a tick."""
        heads = np.stack(np.unravel_index(self._actions, self._choices), axis=-1)
        cold_s = self.core.cold_s.copy()  # an episode that ends takes the next one's
        seen, _, _, over, self.told = self.core.step(heads.reshape(self.core.num_envs, -1))
        spent = self.core.spent[:, :, : len(TERMS)]
        if over.any():
            ended = self.core.final_spent[:, :, : len(TERMS)]
            spent = np.where(over[:, None, None], ended, spent)
        self.spent = spent.copy()
        costs = spent / cold_s[:, :, None]
        self.terms = costs.mean(axis=(0, 1))
        rewards = -self._charged(costs).reshape(-1).astype(np.float32)
        done = over.repeat(self.core.slots)
        infos: list[dict[str, Any]] = [{}] * self.num_envs
        if over.any():
            last = by_function(self.told["final_obs"])
            infos = [
                {"terminal_observation": last[k], "TimeLimit.truncated": True} if done[k] else {}
                for k in range(self.num_envs)
            ]
        return by_function(seen), rewards, done, infos

    def _charged(self, costs: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each row pays for the tick, see the module. Shapes: (B, S, 6) -> (B, S)"""
        if self._team == 0.0:
            pays = np.minimum(costs.sum(axis=2), WORST)
        else:
            own = self.spent[:, :, :BILLED].sum(axis=2) / self.told["scale"][:, None]
            pays = (1.0 - self._team) * own + self._team * own.sum(axis=1, keepdims=True)
        groups = pays.reshape(-1, self._groups, self.core.slots)
        level = groups.mean(axis=1, keepdims=True) if self._groups > 1 else 0.0
        return (groups - level).reshape(pays.shape)

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Use a seed at the next reset."""
        self._seed = seed
        return [seed] * self.num_envs

    def close(self) -> None:
        """Free the core."""
        self.core.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return an attribute of the core, once a row."""
        return [getattr(self.core, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Refuse: rows have no attributes of their own."""
        raise AttributeError(f"rows have no attribute {attr_name}")

    def env_method(self, method_name: str, *args: Any, indices: Indices = None, **kw: Any) -> Any:
        """Return the masks of all rows, the one method they have. Shape: (N, A)"""
        if method_name != "action_masks":
            raise AttributeError(f"rows have no method {method_name}")
        masks = self.core.masks.reshape(self.num_envs, -1)
        return self.core.levers.joint(masks)

    def env_is_wrapped(self, wrapper_class: Any, indices: Indices = None) -> list[bool]:
        """Nothing is wrapped."""
        return [False] * self.num_envs
