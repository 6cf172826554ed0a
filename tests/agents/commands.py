"""Run commands as a user does, and compose their configs."""

from __future__ import annotations

import subprocess
import sys

from hydra import compose, initialize_config_module
from omegaconf import DictConfig


def stoker(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `stoker ...` in a process of its own."""
    code = "from stoker.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )


def composed(command: str, *overrides: str) -> DictConfig:
    """Compose the config of a command."""
    with initialize_config_module("stoker.conf", version_base="1.3"):
        return compose(command, list(overrides))
