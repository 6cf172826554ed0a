"""Config nodes become clusters, workloads and policies, or one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig

from stoker.agents import build
from stoker.agents.train import ConfigProblems
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Link

SMALL = ("workload.functions=20", "workload.hours=1", "workload.requests_per_s=0.5")


def config(*overrides: str, command: str = "simulate") -> DictConfig:
    with initialize_config_module("stoker.conf", version_base="1.3"):
        return compose(command, list(overrides))


def test_training_refuses_episodes_without_length() -> None:
    with pytest.raises(SpecError, match=r"env\.hours = -1"):
        ConfigProblems(config(*SMALL, "env.hours=-1", command="train"), 0)


def test_an_episode_is_no_longer_than_the_training_part() -> None:
    usual = ConfigProblems(config(*SMALL, command="train"), 0)
    _, workload = usual.sample(np.random.default_rng(0))
    whole_h = workload.horizon_s / 3600.0  # less than the usual four hours: all of it
    assert 0.0 < whole_h < 1.0
    with pytest.raises(SpecError, match=r"env\.hours = 3.*training part"):
        ConfigProblems(config(*SMALL, "env.hours=3", command="train"), 0)


def test_pooled_cluster_has_the_memory_of_its_ratio() -> None:
    cfg = config(*SMALL, "scenario=fifo_links")
    half, whole = (build.build_problem(cfg, 0, ratio).cluster for ratio in (0.5, 1.0))
    assert whole.device_gib == pytest.approx(2.0 * half.device_gib)
    assert (half.node.disk.discipline, half.node.disk.slots) == ("fifo", 3)
    assert half.profile == "gpu-map-1/lognormal"


def test_same_seed_gives_the_same_problem_and_another_seed_another() -> None:
    cfg = config(*SMALL)
    first, again, other = (build.build_problem(cfg, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.workload.arrival_s, again.workload.arrival_s)
    assert first.cluster == again.cluster
    assert first.cluster != other.cluster


def test_parts_share_no_function_and_every_seed_splits_alike() -> None:
    names = {
        (part, seed): set(
            build.build_problem(config(*SMALL, f"scenario.part={part}"), seed).workload.names
        )
        for part in ("train", "test")
        for seed in (0, 1)
    }
    assert not names["train", 0] & names["test", 0]
    assert names["train", 0] == names["train", 1]


def test_compression_scales_arrivals_and_the_first_bin() -> None:
    plain, fast = (build.build_problem(config(*SMALL, f"scenario.compress={c}"), 0) for c in (1, 9))
    assert fast.workload.horizon_s == pytest.approx(plain.workload.horizon_s / 9)
    assert fast.cluster.first_bin_s == pytest.approx(plain.cluster.first_bin_s / 9)


def test_explicit_gpus_leave_the_ratio_aside() -> None:
    cluster = build.build_problem(config(*SMALL, "cluster=a100x4"), 0).cluster
    assert len(cluster.node.gpus) == 4 and cluster.device_gib == 320.0
    assert cluster.node.host_gib == 512.0


def test_equal_nodes_share_a_pool_and_repeat_a_list() -> None:
    one, three = (
        build.build_problem(config(*SMALL, "scenario.ratio=3", f"cluster.nodes={n}"), 0).cluster
        for n in (1, 3)
    )
    assert len(three.all_nodes) == 3
    assert three.device_gib == pytest.approx(one.device_gib)
    listed = config(*SMALL, "cluster=a100x4", "cluster.nodes=2", "cluster.loading=pipelined")
    two = build.build_problem(listed, 0).cluster
    assert two.device_gib == 640.0 and two.all_nodes[1].loading == "pipelined"
    booting = config(*SMALL, "scenario.ratio=3", "cluster.nodes=2", "cluster.boot_s=90")
    slow = build.build_problem(booting, 0).cluster
    assert [node.boot_s for node in slow.all_nodes] == [90.0, 90.0]
    with pytest.raises(SpecError, match=r"cluster.nodes = 0"):
        build.build_problem(config(*SMALL, "cluster.nodes=0"), 0)


def test_nodes_may_have_small_disks_behind_a_network() -> None:
    small = ("cluster.disk_gib=100", "cluster.network={gib_s: 1.25}", "cluster.demotion=copy")
    node = build.build_problem(config(*SMALL, *small), 0).cluster.node
    assert (node.disk_gib, node.network, node.demotion) == (100.0, Link(1.25), "copy")
    with pytest.raises(SpecError, match=r"node.network = None.*disk_gib is finite"):
        build.build_problem(config(*SMALL, "cluster.disk_gib=100"), 0)


def test_faults_are_the_same_for_all_ratios_and_none_by_default() -> None:
    assert build.build_problem(config(*SMALL), 0).faults is None
    spot = config(*SMALL, "cluster.nodes=3", "faults=spot", "faults.preemption_every_s=600")
    one, other = build.build_problems(spot, 0, [3.0, 4.0])
    assert one.faults == other.faults and one.faults is not None
    assert {loss.grace_s for loss in one.faults.losses} == {30.0}
    assert build.build_problems(spot, 1, [3.0])[0].faults != one.faults
    with pytest.raises(SpecError, match=r"faults.every_s = 1.*failure_every_s"):
        build.build_problem(config(*SMALL, "+faults.every_s=1"), 0)
    with pytest.raises(SpecError, match=r"rates.slow_factor = .*in \(0, 1\]"):
        build.build_problem(config(*SMALL, "faults.slow_factor=[0.5,1.5]"), 0)


def test_functions_of_a_csv_table_are_used_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("arrival_s,function\n0.5,b\n1.0,a\n")
    (tmp_path / "f.csv").write_text("name,weights_gib,device_gib\na,1,2\nb,3,4\n")
    paths = (f"workload.path={tmp_path}/r.csv", f"workload.functions_path={tmp_path}/f.csv")
    cluster = build.build_problem(config("workload=csv", "scenario.mapping=table", *paths), 0)
    assert [f.device_gib for f in cluster.cluster.functions] == [2.0, 4.0]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("scenario.mapping=random",), "scenario.mapping = 'random'.*lognormal"),
        (("scenario.part=half",), "scenario.part = 'half'.*train"),
        (("scenario.mapping=table",), "functions_path"),
        (("+workload.speed=2",), "workload.*speed"),
        (("+cluster.objective.wait=2",), r"cluster\.objective\.wait.*wait_usd_s"),
        (("cluster.objective.wait_usd_s=-1",), r"objective\.wait_usd_s = -1.*>= 0"),
        (("scenario.ratio=-1",), "ratio = -1"),
        (("workload.hours=-1",), "hours = -1"),
        (("scenario.keep_probability=-1",), "keep_probability"),
        (("scenario.compress=0",), "compress"),
        (("cluster.gpu=abacus",), "gpu = 'abacus'.*A100"),
    ],
)
def test_bad_values_name_the_field_and_what_is_accepted(
    overrides: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        build.build_problem(config(*SMALL, *overrides), 0)


def test_a_trace_that_is_not_here_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build.traffic, "locate", lambda name: None)
    with pytest.raises(SpecError, match="stoker data fetch"):
        build.build_problem(config("workload=azure_functions"), 0)


def test_a_scenario_gives_mapped_functions_layers() -> None:
    given = {"runtime": "torch", "sandbox_s": 0.5, "runtime_gib": 1.0, "sandbox_gib": 0.1}
    layers = [f"scenario.layers.{name}={value}" for name, value in given.items()]
    some = build.build_problem(config(*SMALL, *layers), 0).cluster.functions
    plain = build.build_problem(config(*SMALL), 0).cluster.functions
    assert {(f.runtime, f.sandbox_s, f.runtime_gib, f.sandbox_gib) for f in some} == {
        ("torch", 0.5, 1.0, 0.1)
    }
    assert [f.runtime_s for f in some] == [f.runtime_s for f in plain]
    with pytest.raises(SpecError, match=r"scenario\.layers\.torch = 1"):
        build.build_problem(config(*SMALL, "+scenario.layers.torch=1"), 0)
