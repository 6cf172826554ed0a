"""`stoker bench`: measure the speed budgets and print them with the machine.

`what` picks the parts; `json=true` prints one JSON object instead of the table. Every figure is the
median of `repeats` runs; ratios against a peer come from the same run of this command. Writes
`bench.json` into the run folder.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stoker.agents.bench_figure import Figure
from stoker.agents.progress import bar
from stoker.agents.wording import number
from stoker.envs.cluster.errors import SpecError

PARTS = {
    "engine": "stoker.agents.bench_engine",
    "peer": "stoker.agents.bench_peer",
    "llm": "stoker.agents.bench_llm",
    "env": "stoker.agents.bench_env",
    "ids": "stoker.agents.bench_ids",
    "train": "stoker.agents.bench_train",
    "bound": "stoker.agents.bench_bound",
    "decision": "stoker.agents.bench_decision",
    "start": "stoker.agents.bench_start",
    "runtime": "stoker.agents.bench_runtime",
}
"""Modules with `measure(cfg) -> list[Figure]`."""


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="bench")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    parts = _parts(cfg)
    if cfg.repeats < 1:
        raise SpecError("repeats", cfg.repeats, "an integer >= 1")
    figures: list[Figure] = []
    missing: list[str] = []
    with bar() as progress:
        task = progress.add_task("bench", total=len(parts))
        for part in parts:
            progress.update(task, description=part)
            if importlib.util.find_spec(PARTS[part]) is None:
                missing.append(part)
            else:
                figures += importlib.import_module(PARTS[part]).measure(cfg)
            progress.advance(task)
    facts = {"machine": machine(), "figures": [asdict(f) for f in figures], "missing": missing}
    folder = Path(HydraConfig.get().runtime.output_dir)
    text = json.dumps(facts, indent=2)
    (folder / "bench.json").write_text(text + "\n")
    if cfg.json:
        print(text)
    else:
        show(figures, missing)


def machine() -> dict[str, Any]:
    """Describe the machine that the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": model,
        "cores": cores,
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def show(figures: Sequence[Figure], missing: Sequence[str]) -> None:
    """Print the figures beside their budgets."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    facts = machine()
    console.print(
        f"{facts['processor']}, {facts['cores']} cores, load {facts['load_before']}, "
        f"python {facts['python']}",
        highlight=False,
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in ("part", "what", "measured", "unit", "budget", ""):
        table.add_column(head, justify="right" if head in ("measured", "budget") else "left")
    for f in figures:
        sign = "≥" if f.more_is_better else "≤"
        budget = "" if f.budget is None else f"{sign} {number(f.budget)}"
        verdict = {None: "", True: "met", False: "[red]MISSED[/red]"}[f.met]
        table.add_row(f.part, f.name, number(f.value), f.unit, budget, verdict)
    console.print(table)
    for f in figures:
        if f.note:
            console.print(f"{f.name}: {f.note}", highlight=False)
    if missing:
        console.print(f"not measured, as this version has no such part: {', '.join(missing)}")


def _parts(cfg: DictConfig) -> list[str]:
    if cfg.what == "all":
        return [part for part in PARTS if part != "peer" or cfg.peers]
    wanted = [str(cfg.what)] if isinstance(cfg.what, str) else [str(part) for part in cfg.what]
    for part in wanted:
        if part not in PARTS:
            raise SpecError("what", part, " | ".join(("all", *PARTS)))
    return wanted


if __name__ == "__main__":
    main()
