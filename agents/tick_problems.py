"""The problems of the ids with ticks, as the `env` node of a config describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from stoker.agents.nodes import fill, plain
from stoker.baselines.base import Policy
from stoker.baselines.registry import POLICIES
from stoker.envs.all_levers import AllLeversVectorEnv
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import FaultRates, Faults
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.levers import Batch, HostCopy, Levers, Plan, Side
from stoker.envs.prewarm import PrewarmVectorEnv
from stoker.envs.problems import SyntheticProblems
from stoker.envs.spread_problems import SpreadProblems
from stoker.envs.swap import SwapVectorEnv
from stoker.envs.workload import Workload

Problem = tuple[Cluster, Workload, Faults | None]
TICKED = {"Prewarm": PrewarmVectorEnv, "Swap": SwapVectorEnv, "Cluster": AllLeversVectorEnv}
PLANNED = {
    "Prewarm": Levers(Plan(), Side(), plan="hazard"),
    "Swap": Levers(Plan(), HostCopy(), plan="hazard"),
    "Cluster": Levers(Plan(), HostCopy(), Side(), Batch(), plan="hazard"),
}
"""Levers that begin as the hazard index, in place of the id's own."""
KEYS = ("id", "tick_s", "levers", "traffic", "spread", "opponents")


def build_core(
    node: DictConfig,
    rows: int,
    *,
    groups: int = 1,
    rules: Rules | None = None,
    faults: FaultRates | None = None,
) -> ClusterVectorEnv:
    """Build the cluster view that the `env` node describes.

    Args:
        node: the `env` node.
        rows: clusters side by side.
        groups: so many neighbouring rows share every problem.
        rules: None = those of the levers.
        faults: what goes wrong; None = nothing.
    """
    options = plain(node)
    for name in options:
        if name not in KEYS:
            raise SpecError(f"env.{name}", options[name], " | ".join(KEYS))
    if options["id"] not in TICKED:
        raise SpecError("env.id", options["id"], " | ".join(TICKED))
    if options["levers"] not in ("plan", "own"):
        raise SpecError("env.levers", options["levers"], "plan | own")
    inner = fill("env.traffic", SyntheticProblems, options["traffic"])
    problems = fill("env.spread", SpreadProblems, {"inner": inner, **options["spread"]})
    planned: dict[str, Any] = {"levers": PLANNED[options["id"]], "rules": rules}
    core = TICKED[options["id"]](
        rows, problems=problems, tick_s=options["tick_s"], slo_rate=0.0, copy=False,
        same_trace_groups=groups, faults=faults, **(planned if options["levers"] == "plan" else {}),
    )  # fmt: skip
    assert isinstance(core, ClusterVectorEnv)
    return core


def draw(
    node: DictConfig, count: int, seed: int, faults: FaultRates | None = None
) -> list[Problem]:
    """Draw problems, the same as the rows of an environment with this seed begin with."""
    core = build_core(node, count, faults=faults)
    core.reset(seed=seed)
    return list(zip(core.sim.clusters, core.sim.state.workloads, core.faults, strict=True))


def dollars(policy: Policy, problems: Sequence[Problem]) -> NDArray[np.float64]:
    """What a policy costs on each problem, run one by one: their clusters differ. Shape: (N,)"""
    results = (simulate(c, w, policy, faults=faults)[0] for c, w, faults in problems)
    return np.array([result.bill.total_usd for result in results])


def check_opponents(names: Sequence[str]) -> list[str]:
    """Return the names of heuristics, or say which one there is not."""
    for name in names:
        if name not in POLICIES:
            raise SpecError("env.opponents", name, " | ".join(POLICIES))
    return list(names)
