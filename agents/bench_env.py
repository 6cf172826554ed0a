"""Speed of `KeepAlive`: both views, against the engine below them, and the turn of an episode.

The cluster view decides for every function at every tick, with fewer requests than decisions: its
budget is decisions a second. The function view decides at every idle event, so each decision has a
request or more: its budget is a share of the engine's speed on the same requests of the same rows
without pauses.

Units: decisions or requests per CPU-second, milliseconds.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
from omegaconf import DictConfig

from stoker.agents.bench_figure import Figure
from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.function_view import NEUTRAL, FunctionVectorEnv, plan_of
from stoker.envs.problems import SyntheticProblems

ROWS, STEPS, WARM = 256, 40, 100
PROBLEMS = SyntheticProblems(functions=64, hours=4.0, requests_per_s=0.5)
BUDGET, SHARE = 1e6, 0.7


def measure(cfg: DictConfig) -> list[Figure]:
    """Measure both views and an episode's turn."""
    rows = min(int(cfg.requests or ROWS), ROWS)
    ticks = [tick_rate(max(rows // 4, 1)) for _ in range(cfg.repeats)]
    events = [event_rate(rows) for _ in range(cfg.repeats)]
    a_tick = (
        f"{median(r for _, r in ticks):.1f} requests a decision, {PROBLEMS.functions} functions"
    )
    an_event = f"{median(r for _, r, _ in events):.1f} requests a decision, {rows} rows"
    turn_ms = median(turn() for _ in range(cfg.repeats))
    return [
        Figure(
            "env", "cluster view, decisions", median(d for d, _ in ticks), "decisions/s", BUDGET,
            note=a_tick,
        ),
        Figure(
            "env", "function view, decisions", median(d for d, _, _ in events), "decisions/s",
            note=an_event,
        ),
        Figure(
            "env", "function view, share of the engine's speed",
            median(share for _, _, share in events), "x", SHARE,
        ),
        Figure("env", "end and start of an episode", turn_ms, "ms"),
    ]  # fmt: skip


def tick_rate(rows: int) -> tuple[float, float]:
    """Step the cluster view with random actions; return decisions a CPU-second, requests each."""
    env = ClusterVectorEnv(rows, PROBLEMS, copy=False)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = rng.integers(0, env.single_action_space.nvec[0], (STEPS, rows, PROBLEMS.functions))
    env.step(actions[0])
    before = _requests(env)
    began = time.process_time()
    for action in actions[1:]:
        env.step(action)
    seconds = time.process_time() - began
    decisions = actions[1:].size
    return decisions / seconds, (_requests(env) - before) / decisions


def event_rate(rows: int) -> tuple[float, float, float]:
    """Step the function view; return decisions a CPU-second, requests each, share of the engine."""
    env, action = _warm(rows)
    before, began = _requests(env), time.process_time()
    for _ in range(STEPS):
        env.step(action)
    seconds = time.process_time() - began
    requests = _requests(env) - before
    bare, _ = _warm(rows)
    bare.sim.state.rows["pause"] = 0
    until = env.sim.state.rows["now"].copy()
    before, began = _requests(bare), time.process_time()
    bare.sim.run(until, plan_of(action, bare.mix(bare.sim.pending.observation)))
    alone = (_requests(bare) - before) / (time.process_time() - began)
    return rows * STEPS / seconds, requests / (rows * STEPS), requests / seconds / alone


def turn() -> float:
    """Close a row's episode and start its next one: ms."""
    env, _ = _warm(1)
    began = time.process_time()
    for _ in range(10):
        env._finish(0)
    return 100.0 * (time.process_time() - began)


def _warm(rows: int) -> tuple[FunctionVectorEnv, np.ndarray]:
    """Return an environment whose rows have filled their memory, and neutral actions."""
    env = FunctionVectorEnv(rows, PROBLEMS)
    env.reset(seed=0)
    action = np.full(rows, NEUTRAL)
    for _ in range(WARM):
        env.step(action)
    return env, action


def _requests(env: FunctionVectorEnv | ClusterVectorEnv) -> int:
    """Count the requests that have come so far."""
    return int(env.sim.state.rows["next_req"].sum())
