"""`stoker data fetch NAME`, `stoker data list`: public traces from their own sources."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import TRACES, FetchError, fetch, locate


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="data")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    if cfg.action not in ("list", "fetch"):
        raise SpecError("action", cfg.action, "list | fetch")
    if cfg.action == "list":
        _list()
        return
    if cfg.name not in TRACES:
        raise SpecError("name", cfg.name, " | ".join(TRACES))
    try:
        print(_fetch(cfg))
    except FetchError as error:
        print(f"stoker data: {error}", file=sys.stderr)
        sys.exit(1)


def _list() -> None:
    """Print every known trace and whether it is on this machine."""
    table = Table("name", "here", "licence", "source", box=None, pad_edge=False)
    table.columns[-1].overflow = "fold"
    for name, trace in TRACES.items():
        here = "yes" if locate(name) else "no"
        table.add_row(name, here, trace.licence, trace.url or "a sample: not published as one file")
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def _fetch(cfg: DictConfig) -> str:
    """Download with a progress bar on stderr and return the path."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(str(cfg.name), total=None)

        def progress(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        path = fetch(cfg.name, folder=cfg.folder, url=cfg.url, sha256=cfg.sha256, progress=progress)
    return str(path)


if __name__ == "__main__":
    main()
