"""`stoker calibrate`: measure this machine into a profile that the simulator takes.

Units: seconds, MB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stoker.agents.real_run import device_of, find_models, memory_of
from stoker.agents.stages import bars
from stoker.agents.wording import number
from stoker.envs.cluster.errors import SpecError
from stoker.runtime.calibrate import calibrate
from stoker.runtime.profile import write_profile


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="calibrate")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    if not isinstance(cfg.repeats, int) or cfg.repeats < 1:
        raise SpecError("repeats", cfg.repeats, "an integer >= 1")
    if not 0.0 < cfg.rest_s < math.inf:
        raise SpecError("rest_s", cfg.rest_s, "a time > 0, finite")
    device, memory_bytes = device_of(cfg.runtime), memory_of(cfg.runtime)
    with bars() as progress:
        models = find_models(cfg.runtime.models, progress)
        profile = calibrate(
            models,
            device=device,
            passes=cfg.repeats,
            rest_s=cfg.rest_s,
            memory_bytes=memory_bytes,
            seed=cfg.seed,
            progress=lambda what, done: progress("calibrate", done),
        )
    folder = Path(HydraConfig.get().runtime.output_dir)
    path = Path(cfg.output) if cfg.output is not None else folder / "profile.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_profile(profile, path)
    show(profile)
    print(f"profile: {path}")


def show(profile: Mapping[str, Any]) -> None:
    """Print what was measured."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    machine, process = profile["machine"], profile["process"]
    console.print(
        f"{profile['name']}: {machine['processor']}, {machine['cores']} cores; worker starts in "
        f"{process['start_s']:.2f} s; copies at {profile['copy_gib_s']:.1f} GiB/s",
        highlight=False, markup=False,
    )  # fmt: skip
    console.print(profile["notes"], highlight=False, markup=False)
    heads = ("model", "MB", "load disk ms", "load host ms", "order ms", "p(1) ms", "further ms")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for at, head in enumerate(heads):
        table.add_column(head, justify="right" if at else "left")
    for name, entry in profile["models"].items():
        seconds = (
            entry["load_s"]["disk"]["p50"],
            entry["load_s"]["host"]["p50"],
            entry["order_s"]["p50"],
            entry["batch_s"][1],
            entry["beta_s"],
        )
        size = number(entry["weights_bytes"] / 1e6)
        table.add_row(name, size, *(number(1000.0 * s) for s in seconds))
    console.print(table)
    beside = profile.get("beside")
    if beside is None:
        print("loads beside batches were not measured: no room for two models")
        return
    console.print(
        f"at once, a batch takes {beside['batch']:.2f} times as long and a load "
        f"{beside['load']:.2f} times",
        highlight=False, markup=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
