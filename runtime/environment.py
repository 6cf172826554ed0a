"""`stoker/Runtime-v0`: the cluster view of the ids with ticks, over real models on this machine.

Shapes: S functions, H levers, C features of the cluster.  Units: seconds; rewards in cold starts.
"""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from stoker.baselines.base import Policy
from stoker.envs.cluster.observe_all import BOUND, SLOT, C
from stoker.envs.cluster.spec import Rules
from stoker.envs.cluster_reward import LATE, REQUESTS, add_queued, costs_of
from stoker.envs.levers import KeepAlive, Levers, Scene
from stoker.runtime.live_session import LiveSession
from stoker.runtime.real_problems import RealProblems


class Watched(Policy):
    """The rules under which an agent from outside decides, and what it is shown."""

    observes, rules = True, Rules(eviction="hazard")

    def __init__(self, slo_target: float) -> None:
        self.slo_target = slo_target


class RuntimeEnv(gym.Env[NDArray[np.float32], NDArray[np.int64]]):
    """Real models on this machine, in real time.

    ## Description
    Requests for a few functions are sent at their times to small models that worker processes load,
    keep, swap and run. At every tick the agent decides as in the simulated environments; while it
    thinks, time goes on. Nothing here can be repeated exactly.

    ## Action Space
    That of the levers, those of `stoker/KeepAlive-v0` by default: `MultiDiscrete([6] * S)`.

    ## Observation Space
    That of the cluster view of `stoker/KeepAlive-v0`, from the same code.

    ## Rewards
    Those of the cluster view: minus what the tick has cost, in mean cold starts, by name in
    `info["reward_terms"]`; without the term of the latency target, which stands in the observation
    alone.

    ## Episode
    Starts with nothing loaded and is truncated at the end of the traffic; `info["summary"]` then
    holds the scores.

    ## Arguments
    `problems`: models, memory and traffic (`RealProblems`; by default the demo's models, which are
    trained and measured first: about a minute); `levers`; `tick_s`: at uncompressed time;
    `slo_target`; `device`: cpu or cuda.

    ## Version History
    * v0: first version.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        problems: RealProblems | None = None,
        *,
        levers: Levers | None = None,
        tick_s: float = 60.0,
        slo_target: float = 0.95,
        device: str = "cpu",
    ) -> None:
        self.problems = problems or RealProblems.here(device)
        self.levers = levers or Levers(KeepAlive())
        cluster, self.device = self.problems.cluster, device
        slots = len(cluster.functions)
        self._watched = Watched(slo_target)
        self._scene = Scene.empty(1, slots)
        self._scene.fill(0, cluster)
        self._tick_s = tick_s * float(self._scene.stretch[0])
        self._mask = self.levers.mask(cluster, slots)[None]
        self.observation_space = gym.spaces.Box(-BOUND, BOUND, (slots * SLOT + C,), np.float32)
        self.action_space = gym.spaces.MultiDiscrete(list(self.levers.choices) * slots)
        self._session: LiveSession | None = None

    def action_masks(self) -> NDArray[np.bool_]:
        """Legal choices, slot after slot, lever after lever. Shape: (S * sum A,)"""
        return self._mask.reshape(-1).copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start workers and traffic afresh."""
        super().reset(seed=seed)
        self.close()
        problems = self.problems
        self._workload = problems.traffic(self.np_random)
        self._session = LiveSession(
            problems.cluster, self._workload, problems.deployments, self._watched, self.device,
            self.np_random,
        )  # fmt: skip
        self._now_s = 0.0
        seen = self._session.look()
        row = self._session.engine.simulation.state
        cold_s = row.fn["load_disk_s"][0] * (1.0 + float(row.rows[0]["load_price"]))
        self._scale = np.array([float(cold_s.mean())])
        return seen.observation[0], {"action_mask": self.action_masks()}

    def step(
        self, action: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], SupportsFloat, bool, bool, dict[str, Any]]:
        """Decide, and let a tick pass."""
        session = self._session
        if session is None:
            raise gym.error.ResetNeeded("reset() comes before the first step()")
        slots = len(self._scene.slo_s[0])
        asked = self.levers.check(np.asarray(action)[None], 1, slots)
        legal, clipped = self.levers.legalise(asked, self._mask)
        horizon_s = self.problems.seconds
        until_s = min(self._now_s + self._tick_s, horizon_s)
        seen = session.tick(self.levers.decide(legal, self._scene), until_s)
        before, self._now_s = self._now_s, float(seen.now_s[0])
        observer = session.engine.simulation.observer
        assert observer is not None
        over = self._now_s >= horizon_s - 1e-9
        info: dict[str, Any] = {}
        if over:
            result = session.end()
            add_queued(observer.spent[0], session.engine.simulation.state.rows[0], result)
            info["summary"] = result.summary()
        tick = observer.spent.sum(axis=1)
        costs, excess = costs_of(tick, np.zeros(1), observer.slo, self._scale)
        info |= {
            "reward_terms": {name: -float(cost[0]) for name, cost in costs.items()},
            "cost_slo": float(excess[0]),
            "late": float(tick[0, LATE]),
            "requests": float(tick[0, REQUESTS]),
            "clipped": int(clipped[0]),
            "dt": self._now_s - before,
            "action_mask": self.action_masks(),
        }
        return seen.observation[0], sum(info["reward_terms"].values()), False, over, info

    def close(self) -> None:
        """Stop the workers."""
        if self._session is not None:
            self._session.close()
            self._session = None
