"""Scenarios of the benchmark: each is built and runs at two sizes, and stresses what it says."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from commands import composed, stoker

from stoker.agents import build
from stoker.agents.build import (
    Problem,
    build_policy,
    build_problem,
    build_problems,
    build_workload,
)
from stoker.agents.tracks import build_cases, results_of
from stoker.agents.train import ConfigProblems
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import simulate
from stoker.envs.workload import locate

CONF = Path(str(resources.files("stoker.conf")))
LOADING = ("uncoupled", "fair_link", "fifo_links", "benchmark", "llm")
"""Of one workload or more, not of the benchmark; `llm` has tests of its own."""
SCENARIOS = sorted({path.stem for path in (CONF / "scenario").glob("*.yaml")} - {*LOADING})
SIZES = {
    "xs": (8, 1), "s": (50, 4), "m": (300, 16), "l": (1_000, 64), "xl": (10_000, 512)
}  # fmt: skip
"""Functions and GPUs, as docs/scenarios.md says."""


def problem(scenario: str, size: str = "xs", *more: str, seed: int = 0) -> Problem:
    cfg = composed("simulate", f"scenario={scenario}", f"size={size}", *more)
    return build_problem(cfg, seed)


def test_the_benchmark_is_whole() -> None:
    assert {
        "steady", "diurnal", "bursty", "flash_crowd", "rare_tail", "llm_tokens", "drift",
        "memory_pressure", "load_link_contention", "slow_storage", "finetune_families",
        "node_failure",
    } == set(SCENARIOS)  # fmt: skip
    said = Path(__file__).parents[2] / "docs" / "scenarios.md"
    for name in (*SCENARIOS, *SIZES):
        assert f"`{name}`" in said.read_text()


@pytest.mark.parametrize("size", ["xs", "s"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_runs_for_an_hour(scenario: str, size: str) -> None:
    made = problem(scenario, size, "scenario.hours=1")
    functions, gpus = SIZES[size]
    assert len(made.cluster.functions) == len(made.workload.names) == functions
    # Fewer where the memory that the ratio gives would not let each hold the largest function.
    assert 1 <= len(made.cluster.gpus) <= gpus
    largest = max(f.device_gib for f in made.cluster.functions)
    fewer = len(made.cluster.gpus) < gpus
    assert not fewer or made.cluster.device_gib < (len(made.cluster.gpus) + 1) * largest
    assert made.workload.horizon_s == 3600.0
    for policy in ("ttl", "hazard"):
        run = results_of(build_policy(composed("simulate", f"policy={policy}").policy), [made])[0]
        outcome = run.result.outcome
        assert len(outcome.arrival_s) == len(made.workload) > 0
        assert run.summary()["total_usd"] > 0.0


@pytest.mark.parametrize("size", ["m", "l"])
def test_larger_sizes_have_their_functions_and_gpus(size: str) -> None:
    made = problem("steady", size, "scenario.hours=1")
    assert (len(made.cluster.functions), len(made.cluster.gpus)) == SIZES[size]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_every_part_of_every_scenario_has_traffic(scenario: str, part: str) -> None:
    made = problem(scenario, "s", f"scenario.part={part}")
    assert len(made.workload) > 0


def test_memory_follows_the_ratio_and_every_function_fits() -> None:
    cfg = composed("evaluate", "scenario=memory_pressure", "size=m", "scenario.part=all")
    assert cfg.ratios == [0.25, 0.35, 0.5, 0.7, 1.0]
    made = build_problems(cfg, 0, cfg.ratios)
    memory = [p.cluster.device_gib for p in made]
    assert [m / memory[1] for m in memory] == pytest.approx(
        [0.25 / 0.35, 1, 0.5 / 0.35, 2, 1 / 0.35]
    )
    tight = problem("memory_pressure", "s", "scenario.ratio=0.01").cluster
    largest = max(f.device_gib for f in tight.functions)
    assert [gpu.memory_gib for gpu in tight.gpus] == [largest]


def test_drift_and_crowds_come_in_every_part() -> None:
    for part in ("train", "validation", "test"):
        w = problem("drift", "m", f"scenario.part={part}", "workload.zipf=1.3").workload
        half = len(w.names) // 2
        start, end = {"train": (0.0, 0.45), "validation": (0.45, 0.6), "test": (0.6, 1.0)}[part]
        at = {"train": 0.225, "validation": 0.525, "test": 0.8}[part]
        turn_s = (at - start) / (end - start) * w.horizon_s
        before = (w.function[w.arrival_s < turn_s] < half).mean()
        after = (w.function[w.arrival_s >= turn_s] < half).mean()
        assert abs(before - after) > 0.3


def test_a_node_that_fails_is_repaired_and_its_requests_tried_again() -> None:
    made = problem("node_failure", "s", "scenario.ratio=1", "faults.failure_every_s=1800")
    assert len(made.cluster.all_nodes) == 4 and made.faults is not None
    assert len(made.faults.losses) == pytest.approx(4 * 8 * 3600 / 2400, rel=0.5)
    run = results_of(FixedTtl(600.0), [made])[0]
    assert run.result.bill.node_s < 4 * made.workload.horizon_s


def test_a_slow_store_makes_cold_starts_slow() -> None:
    slow, base = (problem(s, "s", "workload=synthetic") for s in ("slow_storage", "steady"))
    largest = max(f.weights_gib for f in slow.cluster.functions)
    assert max(slow.cluster.loads_s()) > largest / 0.5
    assert np.median(slow.cluster.loads_s()) > 5.0
    assert np.all(slow.cluster.loads_s() > base.cluster.loads_s())


def test_families_share_weights_and_so_need_less_memory() -> None:
    alone, shared = (
        problem("finetune_families", "s", f"scenario.families.rho={rho}") for rho in (0.0, 0.95)
    )
    assert len(shared.cluster.families) == 10
    held = [f.device_gib for f in shared.cluster.functions]
    assert held == [f.device_gib for f in alone.cluster.functions]
    one, other = (
        simulate(p.cluster, p.workload, FixedTtl(3600.0))[0].counters for p in (alone, shared)
    )
    assert other["evictions"] < one["evictions"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("scenario.hours=9",), r"scenario\.hours = 9.*<= 8"),
        (("scenario.hours=0",), r"scenario\.hours = 0.*> 0"),
        (("scenario.part=test", "scenario.hours=3.3"), r"scenario\.hours = 3\.3.*<= 3\.2"),
        (("cluster.gpus=[{memory_gib: 1.0}]",), r"device_gib = .*<= 1\.0 \(largest GPU\)"),
        (("cluster.functions_per_gpu=0",), r"cluster\.functions_per_gpu = 0.*> 0"),
        (("cluster.pooled=false",), r"cluster\.functions_per_gpu = 8.*null where not pooled"),
        (("cluster.gpus_per_node=0",), r"cluster\.gpus_per_node = 0.*>= 1"),
        (("scenario.families.size=0",), r"families\.size = 0"),
        (("+scenario.families.count=2", "scenario.families.size=2"), r"scenario\.families.*size"),
        (("workload.hours=0",), r"hours = 0"),
    ],
)
def test_what_cannot_be_is_refused_at_the_boundary(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        problem("steady", "xs", *overrides)


def test_training_draws_episodes_of_a_scenario() -> None:
    cfg = composed("train", "scenario=bursty", "size=s", "env.hours=0.5")
    problems = ConfigProblems(cfg, 0)
    cluster, work = problems.sample(np.random.default_rng(0))
    assert 1 <= len(cluster.gpus) <= problems.gpus == 2  # 30 of 50 functions, 12.5 a GPU
    assert work.horizon_s == 1800.0 and len(cluster.functions) == problems.functions == 30


def test_tuning_meets_the_failures_of_the_scenario() -> None:
    cfg = composed("tune", "scenario=node_failure", "size=xs", "faults.failure_every_s=600")
    cases = build_cases(cfg, [0], cfg.ratios)
    assert len(cases) == 3
    assert all(case.problem.faults and case.problem.faults.losses for case in cases)


def test_the_command_names_the_horizon_that_is_too_long() -> None:
    ran = stoker("simulate", "scenario=steady", "size=xs", "scenario.hours=100")
    assert ran.returncode == 2
    assert "scenario.hours = 100" in ran.stderr and "<= 8" in ran.stderr


LARGEST = """
import resource
from hydra import compose, initialize_config_module
from stoker.agents.build import build_policy, build_problem
from stoker.agents.tracks import results_of
with initialize_config_module("stoker.conf", version_base="1.3"):
    cfg = compose("simulate", ["scenario=steady", "size=xl", "scenario.hours=0.25"])
made = build_problem(cfg, 0)
assert (len(made.cluster.functions), len(made.cluster.gpus)) == (10_000, 512)
assert len(results_of(build_policy(cfg.policy), [made])[0].result.outcome.arrival_s) > 80_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_the_largest_size_is_built_and_runs_in_four_gigabytes() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LARGEST], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout.split()[-1]) <= 4 * 2**30


TRACED = sorted(
    path.stem for path in (CONF / "workload").glob("*.yaml") if "\ntrace: " in path.read_text()
)


@pytest.mark.parametrize("name", TRACED)
def test_every_trace_loads_by_its_name(name: str) -> None:
    node = composed("simulate", f"workload={name}").workload
    for key in [key for key in node if key.endswith("trace")]:
        if name == "servegen":
            node[key] = "servegen_m_small"  # a part of the archive, as samples of it lie about
        elif name == "burstgpt":
            node[key] = "burstgpt_sample"
        if locate(str(node[key])) is None:
            pytest.skip(f"trace {node[key]} is not on this machine (set STOKER_DATA, or fetch it)")
    workload, functions = build_workload(node, 0)
    assert len(workload) > 0 and functions == ()
    assert len(workload.names) == len(set(workload.names)) >= 1


def test_a_trace_that_is_not_here_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.traffic, "locate", lambda name: None)
    node = composed("simulate", "workload=mooncake").workload
    with pytest.raises(SpecError, match="mooncake_conversation: `stoker data fetch`"):
        build_workload(node, 0)
