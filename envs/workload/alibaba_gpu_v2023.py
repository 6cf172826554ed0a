"""Alibaba GPU v2023 (OpenB): pods that ask for a share of a GPU, or for several.

`openb_pod_list_*.csv` (research use with citation, no licence file: pass nothing on), gzipped or
plain. A request is a pod that asks for a GPU; it arrives at creation_time and is served from
scheduled_time (creation_time, where it never was scheduled) to deletion_time: hours, where a
request to a model takes seconds. A function is what the pods ask for, "QOS NUMxMILLI": class of
service, GPUs, thousandths of each.

Shapes: N requests.  Units: seconds from the first pod.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import tables
from stoker.envs.workload.workload import Workload

COLUMNS = {
    "name": "text", "cpu_milli": "int", "memory_mib": "int", "num_gpu": "int", "gpu_milli": "int",
    "gpu_spec": "text", "qos": "text", "pod_phase": "text", "creation_time": "float",
    "deletion_time": "float", "scheduled_time": "text",
}  # fmt: skip
USED = ("num_gpu", "gpu_milli", "qos", "creation_time", "deletion_time", "scheduled_time")


def load(path: str | Path) -> Workload:
    """Read the pods that ask for GPUs, one function a kind of demand.

    Raises:
        SpecError: names the line and the column.
    """
    path = Path(path)
    tables.known(path, COLUMNS)
    data = tables.read(path, {name: COLUMNS[name] for name in USED})
    tables.some(path, len(data["qos"]))
    created_s = tables.times(path, "creation_time", data["creation_time"])
    tables.ascending(path, "creation_time", created_s)
    deleted_s = tables.times(path, "deletion_time", data["deletion_time"])
    service_s = deleted_s - _scheduled(path, data["scheduled_time"].to_pylist(), created_s)
    bad = np.flatnonzero(service_s < 0.0)
    if len(bad):
        field = f"{path.name}:{int(bad[0]) + tables.FIRST_LINE} deletion_time"
        raise SpecError(field, float(deleted_s[bad[0]]), "at least scheduled_time, creation_time")
    gpus = tables.counts(path, "num_gpu", data["num_gpu"])
    milli = tables.counts(path, "gpu_milli", data["gpu_milli"])
    asks = gpus > 0
    demands = zip(data["qos"].to_pylist(), gpus.tolist(), milli.tolist(), strict=True)
    numbers: dict[str, int] = {}
    function = [numbers.setdefault(f"{q} {n}x{m}", len(numbers)) for q, n, m in demands if n]
    tables.some(path, len(function))
    return Workload(
        created_s[asks],
        np.array(function, np.int32),
        tuple(numbers),
        float(deleted_s.max()),
        service_s[asks],
        source=f"alibaba_gpu_v2023 {path.name}; {int(asks.sum())} pods that ask for GPUs",
    )


def _scheduled(path: Path, cells: list[str], created_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return when each pod was scheduled; where the cell is empty, when it was created. (N,)."""
    times = created_s.copy()
    for row, cell in enumerate(cells):
        if cell:
            try:
                times[row] = float(cell)
            except ValueError as error:
                field = f"{path.name}:{row + tables.FIRST_LINE} scheduled_time"
                raise SpecError(field, cell, "a number, or empty") from error
    return times
