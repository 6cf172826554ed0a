"""The problems of the token budget as a config names them, and what policies cost on them.

Shapes: B rows.  Units: costs in requests, a request.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from stoker.agents.nodes import plain
from stoker.baselines import search
from stoker.baselines.base import Policy
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster
from stoker.envs.problems import stream
from stoker.envs.token_problems import TokenProblems
from stoker.envs.token_reward import figures
from stoker.envs.token_view import TokenTurnEnv
from stoker.envs.workload import Workload

Floats = NDArray[np.float64]
Drawn = list[tuple[Cluster, Workload]]
KEYS = ("variant", "problems", "tick_s", "opponents", "budgets")


def problems_of(node: DictConfig) -> TokenProblems:
    """Build the problems that the `env` node describes, of one function each."""
    asked, known = plain(node), TokenProblems.__dataclass_fields__
    for name in asked:
        if name not in KEYS:
            raise SpecError(f"env.{name}", asked[name], " | ".join(KEYS))
    if asked["variant"] != "llm":
        raise SpecError("env.variant", asked["variant"], "llm")
    for name, value in asked["problems"].items():
        if name not in known or name == "functions":
            fields = " | ".join(field for field in known if field != "functions")
            raise SpecError(f"env.problems.{name}", value, fields)
    drawn = {k: tuple(v) if isinstance(v, list) else v for k, v in asked["problems"].items()}
    return TokenProblems(**drawn)


def build_rows(node: DictConfig, rows: int) -> TokenTurnEnv:
    """Build the environment: a function a row, all of them asked at every tick."""
    return TokenTurnEnv(rows, problems_of(node), tick_s=float(node.tick_s))


def draw(node: DictConfig, seed: int, rows: int) -> Drawn:
    """Draw the first episodes of so many rows, as the environment does."""
    problems = problems_of(node)
    return [problems.sample(stream(seed, k, 0)) for k in range(rows)]


def opponents(node: DictConfig, tuned: dict[str, search.Node]) -> dict[str, search.Node]:
    """List the policies to compare with, tuned ones as they were tuned; each budget is one."""
    nodes: dict[str, search.Node] = {}
    for name in node.opponents:
        nodes[str(name)] = tuned.get(str(name), search.published(str(name)))
    for budget in node.budgets:
        nodes[f"sarathi_{budget}"] = {**search.published("sarathi"), "budget": int(budget)}
    return nodes


def cost(drawn: Drawn, policy: Policy) -> Floats:
    """Cost a request of a policy on every problem, one at a time. Shape: (B,)"""
    costs = []
    for cluster, workload in drawn:
        (result,) = simulate(cluster, workload, policy)
        costs.append(figures(result, cluster, workload, 0.0)["cost"] / len(workload))
    return np.array(costs)


def play(env: TokenTurnEnv, seed: int, act: Any) -> Floats:
    """Cost a request in every row's first episode. Shape: (B,)

    Args:
        env: the rows.
        seed: of the problems.
        act: from observations to actions. Shapes: (B, K) -> (B,)
    """
    seen, _ = env.reset(seed=seed)
    over = np.zeros(env.num_envs, np.bool_)
    while not over.any():  # all episodes are equally long
        seen, _, _, over, info = env.step(act(seen))
    return np.array([s["cost"] / s["requests"] for s in info["summary"]])
