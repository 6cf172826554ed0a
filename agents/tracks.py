"""The grid of problems that policies are compared on, and one run of a policy over it.

A case is one problem under one name of scenario, memory ratio, trace and seed. All cases of a grid
go through the engine side by side; what a policy did before `warmup_s` is left out of the figures.

Units: seconds, dollars.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from stoker.agents.build import Problem, build_problems, build_workload
from stoker.agents.nodes import plain
from stoker.baselines.base import Policy
from stoker.envs.cluster import engine
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.outcome import Bill, Outcome, Result
from stoker.envs.cluster.policy_like import BatchedLike
from stoker.envs.cluster.simulation import Simulation, simulation_for
from stoker.envs.cluster.spec import Cluster, Objective
from stoker.envs.cluster.telemetry import Telemetry
from stoker.envs.cluster.under import run_under

ROWS_AT_ONCE = 8
THREADS = 2
Progress = Callable[[int], None]
"""Called with the number of cases that have just been finished."""


@dataclass(frozen=True)
class Run:
    """What came of one run."""

    result: Result
    link_use: float
    """Share of the time in which the loaders of the disk link were busy."""

    def summary(self) -> dict[str, float]:
        """Every figure that a table shows, by name."""
        figures = self.result.summary()
        queued_s = figures["wait_s"] - figures["cold_s"]
        return {**figures, "queued_s": queued_s, "link_use": self.link_use}


@dataclass(frozen=True)
class Case:
    """One problem and where it stands in the grid."""

    scenario: str
    ratio: float
    trace: str
    seed: int
    problem: Problem

    @property
    def cell(self) -> dict[str, Any]:
        """The columns that identify the case in a result row."""
        names = ("scenario", "ratio", "trace", "seed")
        return {name: getattr(self, name) for name in names}


def build_cases(
    cfg: DictConfig, seeds: Sequence[int], ratios: Sequence[float] | None = None
) -> list[Case]:
    """Build the grid (variants of the scenario) x seeds x ratios.

    Args:
        cfg: a config with the nodes workload, scenario and cluster; `variants` maps further names
            of scenarios to what they change in it.
        seeds: of the traffic, the draw of functions and the mapping to models.
        ratios: memory ratios; None = the scenario's own.
    """
    if not len(seeds):
        raise SpecError("seeds", list(seeds), "at least one seed")
    if ratios is not None and not len(ratios):
        raise SpecError("ratios", list(ratios), "at least one memory ratio")
    out = []
    for seed in seeds:
        loaded = build_workload(cfg["workload"], seed)
        for name, node in _variants(cfg):
            wanted = [plain(node)["ratio"]] if ratios is None else list(ratios)
            changed = {"workload": cfg["workload"], "scenario": node, "cluster": cfg["cluster"]}
            changed["faults"] = cfg.get("faults")
            problems = build_problems(changed, seed, wanted, loaded)
            trace = loaded[0].source.split(";")[0]
            part = node["part"]
            trace = trace if part == "all" else f"{trace} ({part})"
            out += [
                Case(name, float(ratio), trace, int(seed), problem)
                for ratio, problem in zip(wanted, problems, strict=True)
            ]
    return out


def _variants(cfg: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Yield name and node of every scenario of the grid."""
    variants = cfg.get("variants") or {"": {}}
    for name, changes in variants.items():
        node = OmegaConf.merge(cfg["scenario"], changes)
        yield str(name or node["name"]), node  # type: ignore[misc]


def run_policy(
    policy: Policy,
    cases: Sequence[Case],
    *,
    warmup_s: float = 0.0,
    wait_factor: float = 1.0,
    done: Progress | None = None,
) -> list[dict[str, Any]]:
    """Run a policy on every case and return its figures, as `Result.summary` names them.

    Args:
        policy: runs on all cases, a few at a time.
        cases: the grid.
        warmup_s: what happens earlier is neither waited for nor billed.
        wait_factor: the policy is told that waiting costs this many times as much; it is billed at
            the true price.
        done: called as cases finish.
    """
    out: list[dict[str, Any]] = []
    for group in side_by_side(cases, 1 if isinstance(policy, BatchedLike) else ROWS_AT_ONCE):
        began = time.perf_counter()
        runs = results_of(policy, [c.problem for c in group], warmup_s, wait_factor)
        wall_s = (time.perf_counter() - began) / len(group)
        for case, run in zip(group, runs, strict=True):
            out.append({**case.cell, **run.summary(), "wall_s": wall_s})
        if done:
            done(len(group))
    return out


def side_by_side(cases: Sequence[Case], most: int) -> Iterator[list[Case]]:
    """Yield groups of neighbouring cases over the same functions, a few cases at a time.

    A policy sees the first cluster of a group alone, and may keep a figure a function.
    """
    for _, same in groupby(cases, key=lambda case: case.problem.cluster.functions):
        group = list(same)
        for at in range(0, len(group), most):
            yield group[at : at + most]


def results_of(
    policy: Policy,
    problems: Sequence[Problem],
    warmup_s: float = 0.0,
    wait_factor: float = 1.0,
) -> list[Run]:
    """Run a policy on problems side by side; as `simulate`, with the warm-up off the bill too."""
    clusters = [_told(problem.cluster, wait_factor) for problem in problems]
    workloads = [problem.workload for problem in problems]
    for workload in workloads:
        if not 0.0 <= warmup_s < workload.horizon_s:
            accepted = f">= 0 and below the horizon ({workload.horizon_s:g} s)"
            raise SpecError("warmup_s", warmup_s, accepted)
    faults = [problem.faults for problem in problems]
    sim = simulation_for(
        policy, clusters, workloads, warmup_s=warmup_s, threads=THREADS, faults=faults
    )
    foresee = getattr(policy, "foresee", None)
    if foresee is not None:
        foresee(sim)
    opening: dict[int, Result] = {}
    telemetry = Telemetry(faults)
    now, status = np.zeros(len(clusters)), np.zeros(len(clusters), np.int64)
    while not sim.over.all():
        sim.apply(policy.decide(telemetry.see(sim.snapshot())))
        now[status != engine.NOTICED] += policy.tick_s
        if len(opening) < len(clusters) and np.any(warmup_s < now):
            status = run_under(policy, sim, np.minimum(now, warmup_s))
            for k in np.flatnonzero((warmup_s < now) & (status != engine.NOTICED)).tolist():
                if k not in opening:
                    opening[k] = sim.result(k)
        status = run_under(policy, sim, now)
    ends = [sim.result(k) for k in range(len(clusters))]
    ends = [_at_true_price(end, wait_factor) for end in ends]
    use = link_use(sim)
    if warmup_s > 0.0:
        ends = [_since(end, opening[k], warmup_s) for k, end in enumerate(ends)]
    return [Run(end, share) for end, share in zip(ends, use, strict=True)]


def link_use(sim: Simulation) -> list[float]:
    """Return how busy each row's disk links were, 1 = all their loaders all the time."""
    rows, links = sim.state.rows, sim.state.link
    disks = [links[k, :n] for k, n in enumerate(rows["nodes"].tolist())]
    slots = [np.where(disk["fifo"] == 1, disk["slots"], 1).sum() for disk in disks]
    busy_s = [disk["busy_s"].sum() for disk in disks]
    return list(np.array(busy_s) / (slots * np.maximum(rows["now"], 1e-9)))


def _told(cluster: Cluster, factor: float) -> Cluster:
    """Return the cluster with another price of waiting."""
    if factor == 1.0:
        return cluster
    goal: Objective = cluster.objective
    return replace(cluster, objective=replace(goal, wait_usd_s=goal.wait_usd_s * factor))


def _at_true_price(result: Result, factor: float) -> Result:
    return replace(result, bill=replace(result.bill, wait_usd=result.bill.wait_usd / factor))


def _since(end: Result, start: Result, warmup_s: float) -> Result:
    """Take what happened up to the warm-up off bill, counters and outcome.

    Waiting is the engine's: it counts that of requests which arrive after the warm-up.
    """
    bill = {f.name: getattr(end.bill, f.name) - getattr(start.bill, f.name) for f in fields(Bill)}
    bill["wait_usd"] = end.bill.wait_usd
    kept = end.outcome.arrival_s >= warmup_s
    columns = {f.name: getattr(end.outcome, f.name) for f in fields(Outcome)}
    outcome = {name: None if x is None else x[kept] for name, x in columns.items()}
    counters = {name: n - start.counters[name] for name, n in end.counters.items()}
    return replace(end, bill=Bill(**bill), outcome=Outcome(**outcome), counters=counters)
