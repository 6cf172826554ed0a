"""Every config composes, and what the nodes name exists."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from stoker.baselines.registry import POLICIES
from stoker.cli import COMMANDS

CONF = Path(str(resources.files("stoker.conf")))
GROUPS = ("workload", "size", "scenario", "cluster", "faults", "policy", "env", "agent", "runtime")


def composed(command: str, *overrides: str) -> DictConfig:
    with initialize_config_module("stoker.conf", version_base="1.3"):
        cfg = compose(command, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        return cfg


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def defaults_of(command: str) -> str:
    return (CONF / f"{command}.yaml").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_config_with_its_run_folder(command: str) -> None:
    cfg = composed(command)
    assert cfg.command == cfg.hydra.job.name == command
    assert cfg.hydra.run.dir.startswith(f"runs/{command}/")
    assert cfg.hydra.help.header.strip().endswith(".")


@pytest.mark.parametrize(
    ("command", "group", "option"),
    [
        (command, group, option)
        for command in COMMANDS
        for group in GROUPS
        for option in options(group)
        if f"  - {group}: " in defaults_of(command)
    ],
)
def test_every_option_of_every_group_composes(command: str, group: str, option: str) -> None:
    cfg = composed(command, f"{group}={option}")
    OmegaConf.to_container(cfg[group], resolve=True)


@pytest.mark.parametrize("name", options("experiment"))
def test_every_experiment_names_its_command_and_composes(name: str) -> None:
    first, second, *_ = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert first == "# @package _global_"
    words = second.removeprefix("# ").split()
    assert words[0] == "stoker" and f"experiment={name}" in words
    composed(words[1], *words[2:])


@pytest.mark.parametrize("name", POLICIES)
def test_policy_configs_and_the_registry_name_the_same_classes(name: str) -> None:
    node = yaml.safe_load((CONF / "policy" / f"{name}.yaml").read_text())
    assert node["_target_"] == POLICIES[name]


def test_every_group_is_a_package_so_that_a_wheel_carries_it() -> None:
    folders = [path for path in CONF.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert {path.name for path in folders} >= {*GROUPS, "experiment"}
    assert all((path / "__init__.py").is_file() for path in folders)


def test_a_policy_of_ones_own_joins_an_evaluation() -> None:
    from stoker.cli import rewrite

    cfg = composed("evaluate", *rewrite("evaluate", ["policy=my dir/mine.py:Mine"]))
    assert cfg.policies.yours._target_ == "my dir/mine.py:Mine"
    assert "hazard" in cfg.policies


def test_an_experiment_wins_over_the_command_and_the_command_line_over_both() -> None:
    cfg = composed("train", "experiment=quickstart", "workload.hours=1.5")
    assert cfg.ratios == [0.5, 0.7] and cfg.workload.functions == 200
    assert cfg.workload.hours == 1.5
    assert cfg.scenario.name == "fifo_links" and cfg.scenario.part == "train"
