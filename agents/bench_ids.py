"""Speed of the other ids' cluster views, with actions by chance.

A decision is one function's at one tick, or one batch's in Batching. Random orders keep loading and
throwing out, so there is more to simulate than under any policy.

Units: decisions per CPU-second.
"""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from typing import Any

import gymnasium as gym
from omegaconf import DictConfig

from stoker.agents.bench_env import PROBLEMS, ROWS
from stoker.agents.bench_figure import Figure
from stoker.envs.registry import IDS

STEPS = 30


def measure(cfg: DictConfig) -> list[Figure]:
    """Measure each id on traffic for many functions; Batching on its own problems."""
    rows = min(int(cfg.requests or ROWS // 4), ROWS // 4)
    figures = []
    for name in IDS:
        if name == "KeepAlive":  # bench_env.py
            continue
        rates = [rate(build(name, rows)) for _ in range(cfg.repeats)]
        note = f"{median(each for _, each in rates):.1f} requests a decision, {rows} rows"
        speed = median(decisions for decisions, _ in rates)
        figures.append(Figure("ids", f"{name}, decisions", speed, "decisions/s", note=note))
    return figures


def build(name: str, rows: int) -> Any:
    """Make an id's vector environment: what its default problems are, with more functions."""
    known: Any = gym.make_vec(f"stoker/{name}-v0", num_envs=1).unwrapped
    problems = known.problems
    if hasattr(problems, "inner"):
        problems = replace(problems, inner=PROBLEMS)
    return gym.make_vec(f"stoker/{name}-v0", num_envs=rows, problems=problems).unwrapped


def rate(env: Any) -> tuple[float, float]:
    """Step with random actions; return decisions a CPU-second, requests each."""
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(STEPS)]
    env.step(actions[0])
    before, began = requests(env), time.process_time()
    for action in actions[1:]:
        env.step(action)
    seconds = time.process_time() - began
    decisions = (STEPS - 1) * env.num_envs * env.slots
    return decisions / seconds, (requests(env) - before) / decisions


def requests(env: Any) -> int:
    """Count the requests that have come; no episode is so short that it ended."""
    return int(env.sim.state.rows["next_req"].sum())
