"""Speed of PPO on the function view: function-steps a second; shares of environment and learner.

Units: seconds of CPU.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig

from stoker.agents.bench_figure import Figure
from stoker.agents.event_ppo import EventPPO, Shell
from stoker.envs.function_view import FunctionVectorEnv
from stoker.envs.problems import SyntheticProblems

ROWS, ROLLOUT, BATCH, EPOCHS = 256, 128, 8192, 4
SPEED, SHARE = 50e3, 0.15
PROBLEMS = SyntheticProblems(functions=64, hours=4.0, requests_per_s=0.5)
"""Episodes of thousands of decisions, as in training; `bench what=env` has what a turn costs."""


def measure(cfg: DictConfig) -> list[Figure]:
    """Train as `stoker train` does, on half of the decisions, and as plain PPO does, on all."""
    torch.set_num_threads(1)
    rows = min(int(cfg.requests or ROWS), ROWS)
    half, shares_of_half = _train(rows, keep=0.5)
    every, shares_of_every = _train(rows, keep=1.0)
    note = f"{rows} rows, batch {BATCH}, {EPOCHS} epochs"
    return [
        Figure(
            "train", "PPO, half of the decisions kept", half, "function-steps/s", SPEED, note=note
        ),
        *_shares("of it", shares_of_half),
        Figure("train", "PPO, every decision kept", every, "function-steps/s", SPEED),
        *_shares("of that", shares_of_every),
    ]  # fmt: skip


def _shares(what: str, shares: tuple[float, float]) -> list[Figure]:
    """Of the environment, of the learner, and what is left: choosing actions and storing steps."""
    env, learner = shares
    return [
        Figure("train", f"environment's share {what}", env, "x", SHARE, False),
        Figure("train", f"learner's share {what}", learner, "x"),
        Figure("train", f"policy's share {what}", 1.0 - env - learner, "x"),
    ]


class Timed:
    """A function, and the seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self.seconds = function, 0.0

    def __call__(self, *given: Any) -> Any:
        """Call it."""
        began = time.process_time()
        out = self._function(*given)
        self.seconds += time.process_time() - began
        return out


def _train(rows: int, keep: float) -> tuple[float, tuple[float, float]]:
    """Train for a few rollouts after one that is not counted.

    Returns:
        Function-steps a second, and the shares of the environment and of the gradient steps.
    """
    core = FunctionVectorEnv(rows, PROBLEMS)
    core.step = step = Timed(core.step)  # type: ignore[method-assign,assignment]
    warnings.filterwarnings("ignore", message="The `render_mode` attribute")
    model = EventPPO(Shell(core), keep=keep, n_steps=ROLLOUT, batch_size=BATCH, n_epochs=EPOCHS)
    model.train = learn = Timed(model.train)  # type: ignore[method-assign]
    model.learn(rows * ROLLOUT)
    total = rows * ROLLOUT * 4
    step.seconds, learn.seconds, began = 0.0, 0.0, time.process_time()
    model.learn(total, reset_num_timesteps=False)
    seconds = time.process_time() - began
    return total / seconds, (step.seconds / seconds, learn.seconds / seconds)
