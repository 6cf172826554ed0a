"""One row of a vector environment as a single `gym.Env`.

Shapes: S slots, A actions.
"""

from __future__ import annotations

from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.render import Timeline, board
from stoker.envs.views import Variants, Views

_DENSE = ("final_obs", "_final_obs", "_final_info")
"""Keys of a vector environment's info that a single environment does not hand on."""


class SingleEnv(gym.Env[NDArray[np.float32], Any]):
    """The only row of a core that an id's views build.

    Args:
        view: cluster or function.
        render_mode: ansi (the board now), rgb_array (the episode so far) or None.
        arguments: of the view.
    """

    views: ClassVar[Views | Variants]
    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self, view: str = "cluster", render_mode: str | None = None, **arguments: Any
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise SpecError("render_mode", render_mode, "None | ansi | rgb_array")
        self.render_mode = render_mode
        self._timeline: Timeline | None = None
        self.core = self.views(1, view, **arguments)
        self.observation_space = self.core.single_observation_space
        self.action_space = self.core.single_action_space
        self._started = False
        self._reset_keys: frozenset[str] = frozenset()
        self._next: tuple[NDArray[np.float32], dict[str, Any]] | None = None

    def action_masks(self) -> NDArray[np.bool_]:
        """Legal actions; all of them in the function view. Shape: (S * sum A,) or (A,)."""
        if isinstance(self.action_space, gym.spaces.Discrete):
            return np.ones(int(self.action_space.n), np.bool_)
        masks: NDArray[np.bool_] = self.core.action_masks()[0]  # type: ignore[attr-defined]
        return masks

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start the seed's first episode, or without a seed the next one."""
        super().reset(seed=seed)
        waiting, self._next = self._next, None
        if seed is None and waiting is not None:
            return waiting
        if seed is None and not self._started:
            seed = int(self.np_random.integers(2**31))
        self._started = True
        observation, info = self.core.reset(seed=seed)
        self._note()
        self._reset_keys = frozenset(info)
        return observation[0].copy(), _row(info)

    def step(
        self, action: Any
    ) -> tuple[NDArray[np.float32], SupportsFloat, bool, bool, dict[str, Any]]:
        """Decide and run on to the next decision."""
        observation, reward, _, over, info = self.core.step(np.asarray(action)[None])
        self._note()
        mine = _row(info)
        seen = observation[0].copy()
        if over[0]:
            # The core has started the next episode already: hand it out at the next reset.
            first = {key: _row({key: info[key]})[key] for key in info if key in self._reset_keys}
            self._next = (seen, first)
            seen = info["final_obs"][0].copy()
        return seen, float(reward[0]), False, bool(over[0]), mine

    def render(self) -> Any:
        """Return the board, or the picture of the episode so far; None without a mode."""
        if self.render_mode is None:
            return None
        if not self._started:
            raise SpecError("reset", None, "to be called before the first picture")
        if self._timeline is None:
            return board(self._core_sim(), 0)
        return self._timeline.picture()

    def _note(self) -> None:
        """Take the step down where a picture is wanted."""
        if self.render_mode != "rgb_array":
            return
        sim = self._core_sim()
        if self._timeline is None or self._timeline.sim is not sim:
            self._timeline = Timeline(sim)
        self._timeline.note()

    def _core_sim(self) -> Simulation:
        core: Any = getattr(self.core, "core", self.core)  # the turns have a core of their own
        sim: Simulation = core.sim
        return sim


def _row(info: dict[str, Any]) -> dict[str, Any]:
    """Take the only row out of a vector environment's info."""
    row: dict[str, Any] = {}
    for key, value in info.items():
        if key in _DENSE:
            continue
        if isinstance(value, dict):
            row[key] = _row(value)
        elif isinstance(value, np.ndarray):
            row[key] = value[0].item() if value.ndim == 1 else value[0].copy()
        else:
            row[key] = value[0]
    return row
