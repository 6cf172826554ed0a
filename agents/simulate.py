"""`stoker simulate`: one policy on one workload; summary on the terminal, figures as files.

Writes into the run folder: `results.parquet` (one row as `stoker evaluate` writes them),
`requests.parquet` (one row a request) and `summary.json`.

Units: seconds, GiB, dollars.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stoker.agents import tables
from stoker.agents.build import build_policy
from stoker.agents.judged import kind_of
from stoker.agents.token_figures import NAMES, token_figures
from stoker.agents.tracks import Case, build_cases, results_of
from stoker.agents.wording import number, percent
from stoker.envs.cluster.outcome import PERCENTILES, Result
from stoker.envs.cluster.profiles.figure import EXTRAPOLATED
from stoker.envs.cluster.tables import COLD, DROPPED, FAILED, HOST, IN_FLIGHT, PEER, REMOTE, WARM

TIERS = {
    WARM: "warm",
    COLD: "cold",
    HOST: "host",
    PEER: "peer",
    REMOTE: "remote",
    DROPPED: "dropped",
    FAILED: "failed",
    IN_FLIGHT: "in flight",
}


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="simulate")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    policy = build_policy(cfg.policy)
    case = build_cases(cfg, [cfg.seed])[0]
    began = time.perf_counter()
    run = results_of(policy, [case.problem], cfg.warmup_s)[0]
    result = run.result
    wall_s = time.perf_counter() - began
    name = type(policy).__name__
    row = {"policy": name, "kind": kind_of(policy), **case.cell, **run.summary()}
    row["wall_s"] = wall_s
    row |= token_figures(result.outcome, case.problem.workload)
    folder = Path(HydraConfig.get().runtime.output_dir)
    write(folder, row, case, result)
    show(row, case, result)
    print(f"figures in {folder}")


def write(folder: Path, row: dict[str, Any], case: Case, result: Result) -> None:
    """Write the figures of a run into its folder."""
    import pyarrow as pa
    from pyarrow import parquet

    tables.write_rows([row], folder / "results.parquet")
    seen = result.outcome
    names = case.problem.workload.names
    columns = {
        "arrival_s": seen.arrival_s,
        "function": pa.DictionaryArray.from_arrays(pa.array(seen.function), pa.array(names)),
        "outcome": [TIERS[int(tier)] for tier in seen.tier],
        "start_s": seen.start_s,
        "finish_s": seen.finish_s,
    }
    if seen.first_token_s is not None:
        columns |= {"first_token_s": seen.first_token_s, "max_tbt_s": seen.max_tbt_s}
    parquet.write_table(pa.table(columns), folder / "requests.parquet")
    facts = {**row, "source": case.problem.workload.source, "profile": case.problem.cluster.profile}
    text = json.dumps({"summary": facts, "counters": result.counters}, indent=2, default=float)
    (folder / "summary.json").write_text(text + "\n")


def show(row: dict[str, Any], case: Case, result: Result) -> None:
    """Print what was run and what came of it."""
    cluster, workload = case.problem.cluster, case.problem.workload
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(
        f"[bold]{row['policy']}[/bold] on {workload.source}: {len(workload):,} requests of "
        f"{len(workload.names)} functions in {workload.horizon_s / 3600.0:.3g} h",
        highlight=False,
    )
    console.print(
        f"scenario {case.scenario}: {number(cluster.device_gib)} GiB of device memory (ratio "
        f"{case.ratio:g}), profile {cluster.profile}, simulated in {row['wall_s']:.2f} s",
        highlight=False,
    )
    if cluster.profile.endswith(f"({EXTRAPOLATED})"):
        console.print(
            "[bold]extrapolated[/bold]: the profile's times are scaled from another GPU's kernels",
            highlight=False,
        )
    left, right = _dollars(row), _service(row, result)
    table = Table("dollars", "", "service", "", box=SIMPLE_HEAD, pad_edge=False)
    table.columns[1].justify = table.columns[3].justify = "right"
    for at in range(max(len(left), len(right))):
        table.add_row(*_pair(left, at), *_pair(right, at))
    console.print(table)


def _pair(column: list[tuple[str, str]], at: int) -> tuple[str, str]:
    return column[at] if at < len(column) else ("", "")


def _dollars(row: dict[str, Any]) -> list[tuple[str, str]]:
    parts = ("rent", "host", "load", "wait", "drop")
    lines = [("total $", number(row["total_usd"], 4))]
    lines += [(f"  {part} $", number(row[f"{part}_usd"], 4)) for part in parts]
    lines += [
        (f"GPU {kind} s", number(row[f"gpu_{kind}_s"]))
        for kind in ("busy", "loading", "idle", "off")
    ]
    return lines


def _service(row: dict[str, Any], result: Result) -> list[tuple[str, str]]:
    count = result.counters
    tokens = [
        (f"{what} P{p} s", number(row[f"{name}_p{p}_s"], 4))
        for name, what in NAMES.items()
        for p in PERCENTILES
        if f"{name}_p{p}_s" in row
    ]
    return [
        *tokens,
        ("cold starts", percent(row["cold_ratio"], digits=2)),
        ("waited for starts s", number(row["cold_s"])),
        ("waited in all s", number(row["wait_s"])),
        ("latency P50 s", number(row["p50_s"])),
        ("latency P95 s", number(row["p95_s"])),
        ("latency P99 s", number(row["p99_s"])),
        ("SLO attained", percent(row["slo_attainment"], digits=2)),
        ("loads", f"{int(row['loads']):,} ({int(row['prewarms']):,} ahead of demand)"),
        ("evicted, expired", f"{count['evictions']:,}, {count['expiries']:,}"),
        ("loaders busy", percent(row["link_use"])),
        ("dropped, failed", f"{count['drops']:,}, {count['failed']:,}"),
    ]


if __name__ == "__main__":
    main()
