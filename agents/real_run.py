"""One policy on real models for a minute or so, and what the simulator says of the same minute.

Units: seconds, dollars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stoker.agents.serving import Serving
from stoker.agents.wording import number, percent
from stoker.baselines.base import Policy
from stoker.baselines.registry import load_policy
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import Faults
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import GIB, Cluster
from stoker.envs.workload import Workload
from stoker.runtime.calibrate import Progress, calibrate
from stoker.runtime.catalog import Deployment, Model, read_models
from stoker.runtime.keeper import Keeper
from stoker.runtime.profile import read_profile
from stoker.runtime.replay import ReplayResult, replay
from stoker.runtime.training import Progress as TrainingProgress
from stoker.runtime.training import train_demo_models

MODELS = Path("runs/demo/models")
"""Where the demo's models lie: used, and trained if absent, where no others are named."""
SHOWN = ("p50_s", "p95_s", "cold_ratio", "loads", "total_usd", "requests", "slo_attainment")
"""Figures that are set beside each other."""
HELD = ("p50_s", "p95_s")
"""Figures of the fidelity budget."""
REAL_ONLY = (
    "errors", "refused", "decisions", "fallbacks", "trips", "overhead_p99_s", "send_lag_p99_s",
)  # fmt: skip
STEADY = 0.1
"""A machine whose batches take longer or shorter by more than this has changed its pace."""
MakePolicy = Callable[[], Policy]


@dataclass(frozen=True)
class Compared:
    """Figures of one policy, measured and predicted."""

    policy: str
    real: dict[str, float]
    predicted: dict[str, float]
    errors: dict[str, int]
    """Failed requests by reason."""
    fallback: str
    """Who decides where the policy does not."""
    lived: ReplayResult
    slower: float
    """By which share batches took longer when the machine was measured after the run than before;
    0 where it was not measured again."""

    def off(self, name: str) -> float:
        """By which share the figure as lived is above the predicted one."""
        real, predicted = self.real[name], self.predicted[name]
        return real / predicted - 1.0 if predicted else math.nan

    def as_record(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "real": {name: self.real[name] for name in (*SHOWN, *REAL_ONLY)},
            "predicted": {name: self.predicted[name] for name in SHOWN},
            "off": {name: self.off(name) for name in HELD},
            "slower": self.slower,
            "errors": self.errors,
            "fallback": self.fallback,
        }


def live(
    make: MakePolicy,
    cluster: Cluster,
    workload: Workload,
    deployments: Sequence[Deployment],
    *,
    serving: Serving | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> ReplayResult:
    """Send a workload to real models under a policy.

    Args:
        make: makes a fresh policy.
        cluster: this machine, calibrated.
        workload: the requests.
        deployments: of the cluster's functions.
        serving: guard, limits, log and memory; None = the defaults.
        device: cpu, or cuda.
        seed: of the payloads.
        progress: told about once a second.
    """
    serving = serving or Serving()
    return replay(
        cluster, workload, make(), deployments, device=device, seed=seed, progress=progress,
        fallback=serving.make_fallback(), guard=serving.guard, settings=serving.limits,
        log=serving.log, keeper=None if serving.memory is None else Keeper(serving.memory),
    )  # fmt: skip


def compare(
    name: str,
    make: MakePolicy,
    cluster: Cluster,
    lived: ReplayResult,
    workload: Workload,
    noise: Sequence[Faults],
    slower: float = 0.0,
) -> Compared:
    """Predict what has been lived through.

    Args:
        name: of the policy.
        make: makes a fresh policy.
        cluster: this machine, as the policy knew it.
        lived: what became of the requests; nothing of it goes into the prediction.
        workload: the requests.
        noise: of loads and batches as measured, one a simulated run; the prediction is the mean.
        slower: see Compared.
    """
    # One at a time, as a policy of batches wants it.
    summaries = [simulate(cluster, workload, make(), faults=f)[0].summary() for f in noise]
    predicted = {name: float(np.mean([s[name] for s in summaries])) for name in SHOWN}
    real = lived.summary()
    # By the sender's watch where there are two.
    real |= {name: real[f"real_{name}"] for name in ("p50_s", "p95_s", "p99_s")}
    errors = dict(lived.error_counts())
    return Compared(name, real, predicted, errors, lived.fallback, lived, slower)


def comparison_table(rows: Sequence[Compared]) -> Table:
    """Lay measured and predicted figures side by side."""
    table = Table(
        title="Real models on this machine, and what the simulator predicts",
        title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True,
    )  # fmt: skip
    # Three lines, and so 80 columns are enough for any policy of ours.
    heads = (
        "policy", "", "P50\nms", "P95\nms", "cold", "loads", "in\ntime", "failed", "fell\nback",
    )  # fmt: skip
    for at, head in enumerate(heads):
        table.add_column(head, justify="left" if at < 2 else "right", no_wrap=True)
    for row in rows:
        for what, figures in (("real", row.real), ("predicted", row.predicted)):
            only_real = [f"{int(row.real['errors'])}", f"{int(row.real['fallbacks'])}"]
            table.add_row(
                row.policy if what == "real" else "",
                what,
                number(1000.0 * figures["p50_s"]),
                number(1000.0 * figures["p95_s"]),
                percent(figures["cold_ratio"]),
                f"{int(figures['loads']):,}",
                percent(figures["slo_attainment"]),
                *(only_real if what == "real" else ("", "")),
            )
        table.add_row("", "off by", *(percent(row.off(name), sign=True) for name in HELD))
    return table


def print_comparison(rows: Sequence[Compared]) -> None:
    """Print the table, and why requests failed if any did."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=110)
    console.print(comparison_table(rows))
    most = [percent(max(abs(row.off(name)) for row in rows)) for name in HELD]
    console.print(f"real latencies are off by {most[0]} (P50) and {most[1]} (P95) at most")
    for row in rows:
        if abs(row.slower) > STEADY:
            print(f"{row.policy}: {percent(row.slower, sign=True)} for a batch after the run "
                  "against before; its prediction is the mean of both")  # fmt: skip
        for reason, count in row.errors.items():
            console.print(f"{row.policy}: {count} failed: {reason}", highlight=False, markup=False)


def write_requests(row: Compared, names: Sequence[str], path: Path) -> None:
    """Write one line a request, as it was lived, as Parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    seen = row.lived.result.outcome
    columns = {
        "arrival_s": seen.arrival_s,
        "function": pa.DictionaryArray.from_arrays(pa.array(seen.function), pa.array(names)),
        "latency_s": row.lived.latency_s,
        "error": pa.array(row.lived.errors, pa.string()),
    }
    parquet.write_table(pa.table(columns), path)


def find_models(folder: str | None, progress: TrainingProgress | None = None) -> tuple[Model, ...]:
    """Read the models of a folder; without one, find the demo's, trained if need be."""
    if folder is not None:
        return read_models(folder)
    return train_demo_models(MODELS, 0, progress)


def find_profile(
    path: str | None,
    models: tuple[Model, ...],
    runtime: Mapping[str, Any],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Read a profile; without one, measure this machine now, as a `runtime` node says."""
    if path is not None:
        return read_profile(path)
    device, memory_bytes = device_of(runtime), memory_of(runtime)
    return calibrate(models, device=device, memory_bytes=memory_bytes, progress=progress)


def device_of(runtime: Mapping[str, Any]) -> str:
    """Return the kind of device that a `runtime` node names."""
    kinds = {str(name).split(":")[0] for name in runtime["devices"]}
    if runtime["backend"] != "torch":
        raise SpecError("runtime.backend", runtime["backend"], "torch")
    if len(kinds) != 1 or not kinds <= {"cpu", "cuda"}:
        raise SpecError("runtime.devices", list(runtime["devices"]), "[cpu] | [cuda]")
    return kinds.pop()


def memory_of(runtime: Mapping[str, Any]) -> int | None:
    """Return the bytes of a device's memory that a `runtime` node names; None = it names none."""
    gib = runtime["device_gib"]
    if gib is None:
        return None
    if not isinstance(gib, int | float) or not 0.0 < gib < math.inf:
        raise SpecError("runtime.device_gib", gib, "a size > 0, finite, or null")
    return round(gib * GIB)


def maker(node: Mapping[str, Any] | str) -> MakePolicy:
    """Return what makes the policy of a config node afresh."""
    return lambda: load_policy(node)
