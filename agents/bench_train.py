"""Speed of PPO on the function view: function-steps a second, and the environment's share.

Units: seconds of CPU.
"""

from __future__ import annotations

import time
import warnings

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
    half, share_of_half = _train(rows, keep=0.5)
    every, share_of_every = _train(rows, keep=1.0)
    note = f"{rows} rows, batch {BATCH}, {EPOCHS} epochs"
    return [
        Figure(
            "train", "PPO, half of the decisions kept", half, "function-steps/s", SPEED, note=note
        ),
        Figure("train", "environment's share of it", share_of_half, "x", SHARE, False),
        Figure("train", "PPO, every decision kept", every, "function-steps/s", SPEED),
        Figure("train", "environment's share of that", share_of_every, "x", SHARE, False),
    ]  # fmt: skip


def _train(rows: int, keep: float) -> tuple[float, float]:
    """Train for a few rollouts after one that is not counted; return steps/s, share of the env."""
    core = FunctionVectorEnv(rows, PROBLEMS)
    spent = [0.0]
    step = core.step

    def timed(actions: object) -> object:
        began = time.process_time()
        out = step(actions)  # type: ignore[arg-type]
        spent[0] += time.process_time() - began
        return out

    core.step = timed  # type: ignore[method-assign,assignment]
    warnings.filterwarnings("ignore", message="The `render_mode` attribute")
    model = EventPPO(Shell(core), keep=keep, n_steps=ROLLOUT, batch_size=BATCH, n_epochs=EPOCHS)
    model.learn(rows * ROLLOUT)
    total = rows * ROLLOUT * 4
    spent[0], began = 0.0, time.process_time()
    model.learn(total, reset_num_timesteps=False)
    seconds = time.process_time() - began
    return total / seconds, spent[0] / seconds
