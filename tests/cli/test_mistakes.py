"""Mistakes and faults inside an application, with a toy application behind `simulate`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOY = """
import hydra
from stoker.agents.build import build_policy
from stoker.envs.cluster.spec import Gpu

@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="simulate")
def main(cfg):
    if cfg.seed == 1:
        Gpu(memory_gib=-1.0)
    if cfg.seed == 2:
        {}["fault of ours"]
    if cfg.seed == 3:
        hydra.utils.instantiate({"_target_": "stoker.envs.cluster.spec.Gpu", "memory_gib": -2})
    if cfg.seed == 4:
        import surely_not_installed
    float(cfg.workload.hours) + float(cfg.warmup_s)
    if "agent" in cfg:
        cfg.agent.keep
    print(type(build_policy(cfg.policy)).__name__, build_policy(cfg.policy).tick_s)
"""
MINE = """
from stoker.baselines.base import Policy
class Mine(Policy):
    def __init__(self, tick_s=60.0):
        self.tick_s = tick_s
"""


def simulate(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    (folder / "toy.py").write_text(TOY)
    (folder / "mine.py").write_text(MINE)
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from stoker import cli; cli.LOADS['simulate'] = 'toy'; cli.main()"
    )
    command = [sys.executable, "-c", program, "simulate", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=1", "gpu.memory_gib = -1.0 is not accepted: expected > 0"),
        ("seed=3", "gpu.memory_gib = -2 is not accepted: expected > 0"),
        ("seed=4", "surely_not_installed is not installed"),
        ("policy=hazrd", "(did you mean hazard?): expected one of alpaserve, combined"),
        ("policy=nowhere.py:Mine", "an existing file"),
        ("policy=mine.py:Yours", "here: Mine"),
        ("policy._target_=hazrd", "expected ttl | lru | faascache"),
        ("wrkload=csv", "Could not override 'wrkload'"),
        ("workload.hour=2", "Accepted here: _target_, functions, hours"),
        ("scenario=file_links", "(did you mean fifo_links?): expected one of benchmark"),
        ("workload.hours=many", "workload.hours = 'many' is not accepted: expected a number"),
        ("warmup_s=none", "warmup_s = 'none' is not accepted: expected a number"),
        ("+agent.keep=???", "agent.keep is not given: expected agent.keep=VALUE"),
        ("policy", "override 'policy' cannot be read: expected policy=VALUE"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, override: str, said: str) -> None:
    result = simulate(tmp_path, override)
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("stoker simulate: ") and said in line


def test_a_fault_of_ours_keeps_its_traceback(tmp_path: Path) -> None:
    result = simulate(tmp_path, "seed=2")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "KeyError: 'fault of ours'" in result.stderr


def test_a_policy_by_path_runs_with_arguments(tmp_path: Path) -> None:
    result = simulate(tmp_path, "policy=mine.py:Mine", "+policy.tick_s=5.0")
    assert (result.returncode, result.stdout) == (0, "Mine 5.0\n"), result.stderr
