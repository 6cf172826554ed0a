"""What the demo leaves: `summary.json`, and where to look.

Units: seconds, dollars.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.agents.demo_traffic import Traffic
from stoker.agents.deployed import Deployed
from stoker.agents.learner import Trained
from stoker.agents.real_run import Compared
from stoker.agents.report import versions


@dataclass(frozen=True)
class Written:
    """Where a run's files lie, and how long its stages took."""

    folder: Path
    seconds: dict[str, float]
    total_s: float
    bundle: Path

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "evaluate" / "report.html"

    @property
    def tensorboard(self) -> Path:
        """The TensorBoard logs."""
        return self.folder / "train" / "tensorboard"

    @property
    def summary(self) -> Path:
        """The machine-readable result."""
        return self.folder / "summary.json"


def write_summary(
    written: Written,
    deployed: Deployed,
    traffic: Traffic,
    compared: Sequence[Compared],
    trained: Trained,
) -> None:
    """Write `summary.json`."""
    judged = json.loads((written.folder / "evaluate" / "scores.json").read_text())
    bound = next((s for s in judged["scores"] if s["kind"] == "bound"), None)
    facts: dict[str, Any] = {
        "trace": {"name": traffic.name, "real": traffic.real, "held_out": traffic.test.source},
        "compression": {
            "factor": deployed.compression,
            "mean_load_s": deployed.mean_load_s,
            "first_bin_s": deployed.first_bin_s,
        },
        "scores": judged["scores"],
        "bound": bound and {"cost_usd": bound["cost_usd"], "below_bound": judged["below_bound"]},
        "learned": {"chosen": trained.chosen, "validation": trained.scores},
        "runtime": {row.policy: row.as_record() for row in compared},
        "bundle": str(written.bundle),
        "report": str(written.report),
        "tensorboard": str(written.tensorboard),
        "profile": str(written.folder / "profile.yaml"),
        "machine": deployed.profile["machine"],
        "versions": versions(),
        "stages_s": written.seconds,
        "total_s": written.total_s,
    }
    written.summary.write_text(json.dumps(facts, indent=2, default=float) + "\n")


def announce(written: Written) -> None:
    """Say where everything lies."""
    print(f"bundle       {written.bundle}")
    print(f"report       {written.report}")
    print(f"tensorboard  tensorboard --logdir {written.tensorboard}")
    print(f"summary      {written.summary}")
    parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in written.seconds.items())
    print(f"{written.total_s:.0f} s in all: {parts}")
