"""`stoker soak`: minutes of load on real models while things go wrong; every request accounted for.

Writes `soak.json` and the table `soak.md` into the run folder; exit code 1 if a request was left
without an end, an answer was wrong, anything outlived the backend, or planner and worker did not
agree on what a device holds.

Units: seconds, bytes.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from stoker.agents.nodes import fill, plain
from stoker.agents.real_run import device_of, find_models, find_profile
from stoker.agents.stages import bars
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.errors import require
from stoker.runtime.catalog import Model, deploy
from stoker.runtime.profile import profile_cluster
from stoker.runtime.soak import SoakReport, SoakSettings, soak

MIB = 2.0**20
TTLS_S = (0.2, 1.0, 5.0)
"""Keep-alives that take each other's place."""


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="soak")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    settings = fill("soak", SoakSettings, {**plain(cfg.soak), "seed": cfg.seed})
    require(cfg.functions >= 1, "functions", cfg.functions, "an integer >= 1")
    require(cfg.ratio > 0.0, "ratio", cfg.ratio, "> 0")
    device = device_of(cfg.runtime)
    with bars() as progress:
        models = copies(find_models(cfg.runtime.models, progress), folder / "models")
        profile = find_profile(
            cfg.profile, models, cfg.runtime, lambda what, done: progress("calibrate", done)
        )
        served = deploy(models, int(cfg.functions))
        sizes = [d.device_bytes for d in served]
        room = max(round(float(cfg.ratio) * sum(sizes)), max(sizes))
        cluster = profile_cluster(profile, served, device_bytes=[room], host_bytes=room, slo_s=1.0)
        make = [lambda ttl_s=ttl_s: FixedTtl(ttl_s) for ttl_s in TTLS_S]
        report = soak(cluster, served, make, settings, device, lambda done: progress("soak", done))
    table = as_table(report, settings)
    (folder / "soak.json").write_text(json.dumps(report.as_record(), indent=1) + "\n")
    (folder / "soak.md").write_text(table)
    print(table)
    print(f"figures in {folder}")
    if not report.sound:
        sys.exit(1)


def copies(models: tuple[Model, ...], folder: Path) -> tuple[Model, ...]:
    """Copy models, for their files will be spoilt."""
    return tuple(Model.read(shutil.copytree(model.folder, folder / model.name)) for model in models)


def as_table(report: SoakReport, settings: SoakSettings) -> str:
    """Lay the figures out as Markdown."""
    p50_s, p99_s = np.percentile(report.latency_s or [np.nan], (50, 99))
    own = np.array([size for _, size, _ in report.memory]) / MIB
    workers = np.array([size for _, _, size in report.memory if size] or [0]) / MIB
    figures: list[tuple[str, Any]] = [
        ("minutes", f"{settings.minutes:g}"),
        ("requests sent", f"{report.sent:,}"),
        *((f"ended: {how}", f"{count:,}") for how, count in report.ends.most_common()),
        ("without an end", report.unended),
        ("answers that are not the model's", report.wrong),
        (
            "latency P50, P99",
            f"{1e3 * p50_s:.0f} ms, {1e3 * p99_s:.0f} ms",
        ),
        ("controller's own memory, start, end", f"{own[0]:.0f} MiB, {own[-1]:.0f} MiB"),
        ("... last quarter against the second", f"{report.growth():+.1%}"),
        ("workers' own memory, start, end", f"{workers[0]:.0f} MiB, {workers[-1]:.0f} MiB"),
        ("looks at the books of the devices", f"{report.looks:,}"),
        ("... on which planner, ledger or arena differed", len(report.disagreements)),
        ("processes and shared memory left", ", ".join(report.left) or "none"),
        *((f"went wrong: {name}", count) for name, count in report.mishaps.most_common()),
        *((f"counted: {name}", f"{count:,}") for name, count in sorted(report.counts.items())),
    ]
    lines = [
        "| figure | |",
        "| --- | ---: |",
        *(f"| {name} | {value} |" for name, value in figures),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
