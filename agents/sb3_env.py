"""The environments as stable-baselines3 sees them: `make_sb3("stoker/KeepAlive-v0", num_envs=64)`.

stable-baselines3 keeps the last observation while it asks for the next one, so a vector core hands
out two buffers in turn and copies nothing. Steps in which no row ends share one list of empty
dicts.

Shapes: B rows, A actions (flattened).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

Indices = int | Iterable[int] | None


class Sb3VecEnv(VecEnv):
    """A stable-baselines3 `VecEnv` over a SAME_STEP vector environment.

    Infos of rows that end hold `terminal_observation`, `TimeLimit.truncated`, `episode` (return,
    length, end of the episode's clock) and `summary`.

    Args:
        core: the vector environment; a cluster view made with `copy=False` costs no copy.
    """

    def __init__(self, core: VectorEnv[Any, Any, Any]) -> None:
        self.core = core
        self.info: dict[str, Any] = {}
        """The last step's arrays: reward terms and costs, for callbacks."""
        self._blank: list[dict[str, Any]] = [{} for _ in range(core.num_envs)]
        self._actions: NDArray[Any] | None = None
        self._seed: int | None = None
        self._returned = np.zeros(core.num_envs)
        self._length = np.zeros(core.num_envs, np.int64)
        self.render_mode = None
        super().__init__(core.num_envs, core.single_observation_space, core.single_action_space)

    def reset(self) -> NDArray[np.float32]:
        """Start every row afresh."""
        observation: NDArray[np.float32]
        observation, self.info = self.core.reset(seed=self._seed)
        self._seed = None
        self._reset_seeds()
        self._returned[:] = 0.0
        self._length[:] = 0
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions of the next step. Shape: (B, ...)."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_], list[dict[str, Any]]]:
        """Run them."""
        observation, rewards, terminated, truncated, self.info = self.core.step(self._actions)
        done = terminated | truncated
        self._returned += rewards
        self._length += 1
        infos = self._ended(done, truncated) if done.any() else self._blank
        return observation, rewards.astype(np.float32), done, infos

    def _ended(self, done: NDArray[np.bool_], truncated: NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Infos of a step in which rows end."""
        infos = list(self._blank)
        for k in np.flatnonzero(done).tolist():
            length, returned = int(self._length[k]), round(float(self._returned[k]), 6)
            summary = dict(self.info["summary"][k])
            infos[k] = {
                "terminal_observation": self.info["final_obs"][k].copy(),
                "TimeLimit.truncated": bool(truncated[k]),
                "episode": {"r": returned, "l": length, "t": float(length)},
                "summary": summary,
            }
            self._returned[k], self._length[k] = 0.0, 0
        return infos

    def close(self) -> None:
        """Free the core."""
        self.core.close()

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Use a seed at the next reset; every row has a stream of its own."""
        self._seed = seed
        return [seed] * self.num_envs

    def has_attr(self, attr_name: str) -> bool:
        """Whether the core has an attribute."""
        return hasattr(self.core, attr_name)

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return an attribute of the core, once a row."""
        value = None if attr_name == "render_mode" else getattr(self.core, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of the core (the rows share it)."""
        setattr(self.core, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the core once: `action_masks` gives all rows' masks as one array."""
        return [getattr(self.core, method_name)(*method_args, **method_kwargs)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """No row is wrapped."""
        return [False for _ in self._get_indices(indices)]


def make_sb3(id: str, num_envs: int = 1, **arguments: Any) -> Sb3VecEnv:
    """Build an environment for stable-baselines3.

    Args:
        id: a registered `stoker/...` id.
        num_envs: rows.
        arguments: of the environment, `view` among them.
    """
    if arguments.get("view", "cluster") == "cluster":
        arguments.setdefault("copy", False)
    return Sb3VecEnv(gym.make_vec(id, num_envs=num_envs, **arguments))
