"""The console script: overview, one clear line for mistakes, run folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stoker import cli


def stoker(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:

    return subprocess.run(
        [sys.executable, "-c", "from stoker.cli import main; main()", *args],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def one_clear_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_overview_names_every_command_and_imports_no_application(tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv = ['stoker', '--help']\n"
        "from stoker.cli import main; main()\n"
        "heavy = {'torch', 'hydra', 'numba', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert all(f"  {name} " in run.stdout for name in cli.COMMANDS)


def test_unknown_command_gets_a_suggestion(tmp_path: Path) -> None:
    line = one_clear_line(stoker("simulat", cwd=tmp_path))
    assert "did you mean simulate?" in line and "evaluate" in line


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("action=grab", "action = 'grab' is not accepted: expected list | fetch"),
        ("nme=x", "Accepted here: seed, command, action, name, folder"),
        ("name=[", "override 'name=[' cannot be read"),
        ("policy=x", "Could not override 'policy'"),
    ],
)
def test_a_bad_value_is_one_line_and_exit_code_2(tmp_path: Path, override: str, said: str) -> None:
    line = one_clear_line(stoker("data", override, cwd=tmp_path))
    assert line.startswith("stoker data: ") and said in line


def test_a_mistake_within_a_sweep_is_one_line_too(tmp_path: Path) -> None:
    result = stoker("data", "-m", "action=grab,hold", "hydra.verbose=false", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "action = 'grab'" in result.stderr.strip().splitlines()[-1]


def test_full_errors_can_be_asked_for(tmp_path: Path) -> None:
    result = stoker("data", "action=grab", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert result.returncode == 1 and "Traceback" in result.stderr


def test_help_of_a_command_is_its_settings(tmp_path: Path) -> None:
    result = stoker("data", "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "usage: stoker data" in result.stdout and "action: list" in result.stdout
    assert "conf/data.yaml" in result.stdout


def test_help_lists_the_groups_that_the_command_takes(tmp_path: Path) -> None:
    shown = stoker("tune", "--help", cwd=tmp_path).stdout
    groups = shown.partition("Groups (group=option)")[2].partition("Settings")[0]
    assert "scenario: benchmark" in groups and "experiment: " in groups
    assert "agent: " not in groups and "runtime: " not in groups
    assert "Groups" not in stoker("data", "--help", cwd=tmp_path).stdout


def test_two_runs_at_once_get_folders_of_their_own_with_config_and_log(tmp_path: Path) -> None:
    for _ in range(2):
        stoker("data", "action=grab", cwd=tmp_path)
    folders = list((tmp_path / "runs" / "data").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert (folder / ".hydra" / "config.yaml").is_file()
        assert (folder / "data.log").is_file()


@pytest.mark.parametrize(
    ("command", "given", "expected"),
    [
        ("data", ["fetch", "burst"], ["action=fetch", "name=burst"]),
        ("data", ["list"], ["action=list"]),
        ("data", ["name=burst"], ["name=burst"]),
        (
            "simulate",
            ["policy=a/b.py:Mine", "seed=1"],
            ["policy=file", "policy._target_='a/b.py:Mine'", "seed=1"],
        ),
        (
            "evaluate",
            ["policy=b.py:Mine"],
            ["+policy@policies.yours=file", "policies.yours._target_='b.py:Mine'"],
        ),
        ("simulate", ["policy=ttl"], ["policy=ttl"]),
    ],
)
def test_plain_words_become_overrides(command: str, given: list[str], expected: list[str]) -> None:
    assert cli.rewrite(command, given) == expected
