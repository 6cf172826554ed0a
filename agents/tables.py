"""Result rows: one dict a policy, setting and cell; kept as Parquet, paired by cell.

A cell is (scenario, ratio, trace, seed). `kind` says what a row's policy is: `published`,
`hazard`, `learned`, `yours`, `oracle` (a reference) or `bound` (below every policy). `point`
numbers the settings of a policy along its frontier; 0 is the headline setting, which the tables
show, and the default.

Shapes: N cells, P policies, K frontier points.  Units: seconds, dollars, GPU-seconds; shares 0..1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError

Row = Mapping[str, Any]
Cell = tuple[str, float, str, int]
KINDS = ("published", "hazard", "learned", "yours", "oracle", "bound")
DEPLOYABLE = ("published", "hazard", "learned", "yours")
"""Kinds that could run in production; the others know the future."""
KEYS = ("policy", "kind", "scenario", "ratio", "trace", "seed")
GPU_KINDS = ("gpu_busy_s", "gpu_loading_s", "gpu_idle_s", "gpu_off_s")
METRICS = (
    "total_usd",
    "wait_usd",
    "rent_usd",
    "load_usd",
    "cold_s",
    "cold_ratio",
    "wait_s",
    "p50_s",
    "p95_s",
    "p99_s",
    "slo_attainment",
    *GPU_KINDS,
    "requests",
    "drops",
    "evictions",
    "loads",
    "wall_s",
)


def check_rows(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the rows with every column present: `point` 0 and NaN metrics where not given.

    Raises:
        SpecError: a key or `total_usd` is missing, a kind is unknown, or a cell appears twice.
    """
    out: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    for at, row in enumerate(rows):
        for name in (*KEYS, "total_usd"):
            if row.get(name) is None:
                raise SpecError(f"results[{at}].{name}", None, "a value in every row")
        if row["kind"] not in KINDS:
            raise SpecError(f"results[{at}].kind", row["kind"], " | ".join(KINDS))
        full = {"point": 0, **dict.fromkeys(METRICS, float("nan")), **row}
        key = (full["policy"], full["point"], *cell(full))
        if key in seen:
            raise SpecError(f"results[{at}]", key, "one row a policy, point and cell")
        seen.add(key)
        out.append(full)
    if not out:
        raise SpecError("results", 0, "at least one row")
    return out


def write_rows(rows: Iterable[Row], path: str | Path) -> Path:
    """Write rows as Parquet; columns in a fixed order, your own ones last."""
    import pyarrow as pa
    from pyarrow import parquet

    full = check_rows(rows)
    known = [*KEYS, "point", *METRICS]
    more = sorted({name for row in full for name in row} - set(known))
    columns = {name: [row.get(name) for row in full] for name in known + more}
    for name in (*METRICS, "ratio"):
        columns[name] = [float(value) for value in columns[name]]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)
    return path


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Read rows that `write_rows` wrote."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SpecError("results", str(path), f"a Parquet file of result rows ({error})") from error
    return check_rows(table.to_pylist())


def cell(row: Row) -> Cell:
    """Return what identifies the conditions under which a row was measured."""
    return str(row["scenario"]), float(row["ratio"]), str(row["trace"]), int(row["seed"])


def headline(rows: Iterable[Row]) -> list[Row]:
    """Keep the headline setting of each policy."""
    return [row for row in rows if row.get("point", 0) == 0]


def policies(rows: Iterable[Row], kinds: Sequence[str] = KINDS) -> list[str]:
    """Return the names of the policies of some kinds, in order of appearance."""
    return list(dict.fromkeys(str(row["policy"]) for row in rows if row["kind"] in kinds))


def kind_of(rows: Iterable[Row], policy: str) -> str:
    """Return the kind of a policy."""
    return next(str(row["kind"]) for row in rows if row["policy"] == policy)


def column(
    rows: Iterable[Row], policy: str, name: str, cells: Sequence[Cell], point: int = 0
) -> NDArray[np.float64]:
    """Return one metric of a policy in given cells. Shape: (N,).

    Raises:
        SpecError: the policy was not run in one of them, so that nothing can be paired.
    """
    found = {
        cell(row): row[name]
        for row in rows
        if row["policy"] == policy and row.get("point", 0) == point
    }
    for key in cells:
        if key not in found:
            where = "scenario {}, ratio {:g}, trace {}, seed {}".format(*key)
            raise SpecError("results", f"{policy} without {where}", "every policy in every cell")
    return np.array([found[key] for key in cells], np.float64)


def cells(rows: Iterable[Row]) -> list[Cell]:
    """Return all cells, sorted."""
    return sorted({cell(row) for row in rows})


def points(rows: Iterable[Row], policy: str) -> list[int]:
    """Return the numbers of a policy's frontier points, sorted."""
    return sorted({int(row.get("point", 0)) for row in rows if row["policy"] == policy})
