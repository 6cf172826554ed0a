"""PPO (Schulman et al. 2017; stable-baselines3) on decisions whose reward comes later.

In the function view a reward belongs to the decision that an event closes, which may have been
taken many steps before. Decisions therefore enter the rollout buffer when they close, with the
probability that the policy gave them when they were taken. The discount across events is 0, so the
advantage is the reward less its predicted value. Busy functions are thinned: a decision is kept
with a probability that falls with the square root of its function's decisions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from stoker.agents.decisions import Closed, OpenDecisions
from stoker.agents.networks import AS_HEURISTIC
from stoker.envs.cluster.idle import TERMS
from stoker.envs.function_view import NEUTRAL, FunctionVectorEnv

EPISODE = ("cold_ratio", "cold_s", "p50_s", "p95_s", "p99_s", "total_usd", "slo_attainment")
"""Figures of finished episodes that are logged."""


class ClosedBuffer(RolloutBuffer):
    """A rollout buffer that takes a list of closed decisions instead of a grid of steps."""

    def fill(self, closed: Closed, values: NDArray[np.float32]) -> None:
        """Replace the content."""
        n = len(closed.action)
        self.buffer_size, self.n_envs = n, 1
        self.reset()
        self.observations[:, 0] = closed.observation
        self.actions[:, 0, 0] = closed.action
        self.log_probs[:, 0] = closed.log_prob
        self.rewards[:, 0] = closed.reward
        self.values[:, 0] = values
        self.returns[:, 0] = closed.reward
        self.advantages = self.returns - self.values
        self.pos, self.full = n, True


class Shell(VecEnv):
    """What stable-baselines3 needs to know of the environment; `EventPPO` steps it itself."""

    def __init__(self, env: FunctionVectorEnv) -> None:
        self.core = env  # asked for its render mode by the base class
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> NDArray[np.float32]:
        """Start afresh."""
        self.info: dict[str, Any]
        observation, self.info = self.core.reset(seed=self._seeds[0])
        return observation

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step the core."""
        observation, reward, _, over, self.info = self.core.step(self._actions)
        return observation, reward, over, [{}] * self.num_envs

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Attributes are the core's."""
        return [getattr(self.core, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: rows have no attributes of their own."""
        raise AttributeError(f"rows have no attribute {attr_name}")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Refuse: rows have no methods of their own."""
        raise AttributeError(f"rows have no method {method_name}")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Nothing is wrapped."""
        return [False] * self.num_envs


class EventPPO(PPO):
    """PPO over a `Shell`; see the module."""

    def __init__(self, env: Shell | None, keep: float = 0.5, seed: int = 0, **kwargs: Any) -> None:
        self.keep = keep
        self._thin = np.random.default_rng(seed)
        settings = {"gamma": 0.0, "gae_lambda": 0.0, "device": "cpu", **kwargs}
        super().__init__("MlpPolicy", env, seed=seed, **settings)

    def _setup_model(self) -> None:
        super()._setup_model()
        self.rollout_buffer = ClosedBuffer(
            1, self.observation_space, self.action_space, device=self.device
        )
        with torch.no_grad():
            self.policy.action_net.weight.zero_()
            self.policy.action_net.bias.zero_()
            self.policy.action_net.bias[NEUTRAL] = AS_HEURISTIC
        self._waiting: OpenDecisions | None = None
        self._ended: list[dict[str, float]] = []

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int
    ) -> bool:
        """Step all rows `n_rollout_steps` times and keep the decisions that close."""
        assert isinstance(env, Shell) and isinstance(self.action_space, spaces.Discrete)
        if self._waiting is None:
            self._waiting = OpenDecisions(env.core)
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        parts: list[Closed] = []
        terms = np.zeros(len(TERMS))
        for _ in range(n_rollout_steps):
            observation = np.asarray(self._last_obs)
            with torch.no_grad():
                odds = self.policy.get_distribution(torch.from_numpy(observation))
                action = odds.sample()
                log_prob = odds.log_prob(action)
            function = env.info["function"]
            self._waiting.open(function, observation, action.numpy(), log_prob.numpy())
            self._last_obs, reward, over, _ = env.step(action.numpy())
            parts.append(self._waiting.close(env.info, reward))
            self._ended += [figures for figures in env.info.get("summary", ()) if figures]
            terms += (env.info["terms"] / env.info["scale"][:, None]).sum(axis=0)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
        closed = self._thinned(Closed.join(parts))
        with torch.no_grad():
            values = self.policy.predict_values(torch.from_numpy(closed.observation))
        rollout_buffer.fill(closed, values.numpy()[:, 0])
        self._record(closed, terms / max(sum(len(p.action) for p in parts), 1))
        callback.on_rollout_end()
        return True

    def _thinned(self, closed: Closed) -> Closed:
        """Keep a share of the decisions, busy functions less often."""
        n = len(closed.action)
        chosen = self._thin.choice(
            n, max(int(self.keep * n), 1), replace=False, p=closed.weight / closed.weight.sum()
        )
        return Closed(*(getattr(closed, name)[chosen] for name in Closed.__annotations__))

    def _record(self, closed: Closed, terms: NDArray[np.float64]) -> None:
        """Log every reward term, in cold starts a decision."""
        for name, value in zip(TERMS, terms, strict=True):
            self.logger.record(f"reward/{name}", -float(value))
        for name in EPISODE if self._ended else ():
            mean = float(np.mean([figures[name] for figures in self._ended]))
            self.logger.record(f"episode/{name}", mean)
        self._ended = []
        self.logger.record("reward/decision", float(closed.reward.mean()))
        self.logger.record("rollout/as_heuristic", float((closed.action == NEUTRAL).mean()))
        self.logger.record("rollout/closed", len(closed.action))
