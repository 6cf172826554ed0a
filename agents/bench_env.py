"""Speed of the environment: the function view of `KeepAlive`, against the engine below it.

Two loads: few requests a decision, where the budget is decisions a second, and many, where it is a
share of the engine's speed on the same traffic without pauses.

Units: decisions or requests per CPU-second.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
from omegaconf import DictConfig

from stoker.agents.bench_figure import Figure
from stoker.envs.function_view import NEUTRAL, FunctionVectorEnv
from stoker.envs.problems import SyntheticProblems

ROWS, STEPS = 1024, 60
SPARSE = SyntheticProblems(functions=8, hours=4.0, requests_per_s=0.01)
DENSE = SyntheticProblems(functions=8, hours=0.5, requests_per_s=2.0)
BUDGET, SHARE = 1e6, 0.7


def measure(cfg: DictConfig) -> list[Figure]:
    """Measure both loads."""
    rows = min(int(cfg.requests or ROWS), ROWS)
    sparse = [steps(rows, SPARSE) for _ in range(cfg.repeats)]
    dense = [steps(rows // 4 or 1, DENSE) for _ in range(cfg.repeats)]
    rate = median(decisions for decisions, _ in sparse)
    speed = median(requests for _, requests in dense)
    bare = median(engine_alone(rows // 4 or 1, DENSE) for _ in range(cfg.repeats))
    a_decision = median(requests / decisions for decisions, requests in sparse)
    note = f"{a_decision:.1f} requests a decision, {rows} rows, neutral actions"
    return [
        Figure("env", "function decisions", rate, "decisions/s", BUDGET, note=note),
        Figure("env", "share of the engine's speed", speed / bare, "x", SHARE),
    ]


def steps(rows: int, problems: SyntheticProblems) -> tuple[float, float]:
    """Step an environment; return decisions and requests a CPU-second."""
    env = FunctionVectorEnv(rows, problems)
    env.reset(seed=0)
    action = np.full(rows, NEUTRAL)
    env.step(action)
    before = int(env.sim.state.rows["next_req"].sum())
    began = time.process_time()
    for _ in range(STEPS):
        env.step(action)
    seconds = time.process_time() - began
    # An episode that ends starts its row's count again: such steps count as no requests.
    served = max(int(env.sim.state.rows["next_req"].sum()) - before, 0)
    return rows * STEPS / seconds, served / seconds


def engine_alone(rows: int, problems: SyntheticProblems) -> float:
    """Run the same rows without a pause; return requests a CPU-second."""
    env = FunctionVectorEnv(rows, problems)
    env.reset(seed=0)
    state = env.sim.state
    state.rows["pause"], state.rows["pending"] = 0, -1
    before = int(state.rows["next_req"].sum())
    began = time.process_time()
    env.sim.run(600.0)
    return (int(state.rows["next_req"].sum()) - before) / (time.process_time() - began)
