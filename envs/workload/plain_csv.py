"""Your own traffic as CSV: one line a request, and optionally one line a function.

Requests: `arrival_s,function[,prompt_tokens,output_tokens][,service_s]`, in order of arrival.
Functions: any of the fields of `stoker.envs.cluster.spec.Function` that hold one value, at least
name, weights_gib and device_gib.

Shapes: N requests, F functions.  Units: seconds, tokens, GiB.
"""

from __future__ import annotations

import csv
import math
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Function
from stoker.envs.workload import tables
from stoker.envs.workload.workload import Workload

REQUEST_COLUMNS = {
    "arrival_s": "float",
    "function": "text",
    "prompt_tokens": "int",
    "output_tokens": "int",
    "service_s": "float",
}
REQUIRED = ("arrival_s", "function")


def load(
    path: str | Path, functions_path: str | Path | None = None, *, horizon_s: float | None = None
) -> tuple[Workload, tuple[Function, ...]]:
    """Read requests, and the functions where a table of them is given (else an empty tuple).

    Args:
        path: the requests, gzipped or plain.
        functions_path: the functions; fixes their order, and no request may name another.
        horizon_s: end of the workload; the last arrival if not given.

    Raises:
        SpecError: names the file, the line and the column.
    """
    path = Path(path)
    columns = tables.header(path)
    tables.known(path, REQUEST_COLUMNS)
    kinds = {c: REQUEST_COLUMNS[c] for c in dict.fromkeys((*REQUIRED, *columns))}
    data = tables.read(path, kinds)
    tables.some(path, len(data["arrival_s"]))
    arrival_s = tables.times(path, "arrival_s", data["arrival_s"])
    tables.ascending(path, "arrival_s", arrival_s)
    function, names = tables.labels(data["function"])
    _refuse_name(path, function, names, "", "a name")
    functions: tuple[Function, ...] = ()
    if functions_path is not None:
        functions = load_functions(functions_path)
        index = {f.name: i for i, f in enumerate(functions)}
        for name in names:
            if name not in index:
                _refuse_name(path, function, names, name, "a name of the function table")
        function = np.array([index[name] for name in names], np.int32)[function]
        names = tuple(index)
    end_s = float(arrival_s[-1]) if horizon_s is None else horizon_s
    source = f"csv {path.name}"
    optional = _optional(path, data)
    return Workload(arrival_s, function, names, end_s, source=source, **optional), functions


def _refuse_name(
    path: Path, function: NDArray[np.int32], names: tuple[str, ...], name: str, accepted: str
) -> None:
    if name in names:
        line = int(np.flatnonzero(function == names.index(name))[0]) + tables.FIRST_LINE
        raise SpecError(f"{path.name}:{line} function", name, accepted)


def _optional(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column in ("prompt_tokens", "output_tokens"):
        if column in data:
            found[column] = tables.counts(path, column, data[column])
    if "service_s" in data:
        found["service_s"] = tables.times(path, "service_s", data["service_s"])
    return found


NESTED = ("services", "llm", "batch_s")
"""Fields of more than one value, which a cell does not hold."""
COLUMNS = tuple(f.name for f in fields(Function) if f.name not in NESTED)
"""Of a function table."""
TEXTS = ("name", "family", "runtime")


def load_functions(path: str | Path) -> tuple[Function, ...]:
    """Read a function table; empty cells mean the field's default.

    Raises:
        SpecError: names the file, the line and the column.
    """
    path = Path(path)
    columns = tables.header(path)
    known = {f.name: f for f in fields(Function) if f.name in COLUMNS}
    for column in columns:
        if column not in known:
            raise SpecError(f"{path.name}: column", column, " | ".join(known))
    for name, field in known.items():
        if field.default is MISSING and name not in columns:
            raise SpecError(f"{path.name}: column", name, f"a file with it; found {columns}")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream)
        next(rows)
        made = tuple(_function(path, rows.line_num, columns, row) for row in rows)
    seen: set[str] = set()
    for line, function in enumerate(made, tables.FIRST_LINE):
        if function.name in seen:
            raise SpecError(f"{path.name}:{line} name", function.name, "names that differ")
        seen.add(function.name)
    return made


def _function(path: Path, line: int, columns: list[str], row: list[str]) -> Function:
    at = f"{path.name}:{line}"
    if len(row) != len(columns):
        raise SpecError(f"{at} columns", len(row), f"{len(columns)} columns")
    values: dict[str, Any] = {}
    for column, text in zip(columns, row, strict=True):
        whole = column in ("max_batch", "concurrency", "gpus")
        try:
            if text:
                values[column] = text if column in TEXTS else int(text) if whole else float(text)
        except ValueError as error:
            kind = "a whole number" if whole else "a number"
            raise SpecError(f"{at} {column}", text, kind) from error
    try:
        return Function(**values)
    except SpecError as error:
        raise SpecError(f"{at} {error.field}", error.value, error.accepted) from error
    except TypeError as error:
        raise SpecError(f"{at}", row, "a name, weights_gib and device_gib in every row") from error


def save(
    path: str | Path,
    workload: Workload,
    functions: tuple[Function, ...] = (),
    functions_path: str | Path | None = None,
) -> None:
    """Write requests, and the functions where a path for them is given; `load` reads both back.

    Numbers come back bit for bit. The horizon and the source are not part of the file.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names = pa.array(workload.names, pa.string())
    table: dict[str, Any] = {
        "arrival_s": workload.arrival_s,
        "function": pa.DictionaryArray.from_arrays(workload.function, names).cast(pa.string()),
    }
    for column in ("prompt_tokens", "output_tokens", "service_s"):
        values = getattr(workload, column)
        if values is not None:
            table[column] = values
    with pa.output_stream(str(path), compression="detect") as stream:
        arrow_csv.write_csv(pa.table(table), stream)
    if functions_path is not None:
        _save_functions(Path(functions_path), functions)


def _save_functions(path: Path, functions: tuple[Function, ...]) -> None:
    for function in functions:
        for name in NESTED:
            if value := getattr(function, name):
                at = f"function[{function.name}].{name}"
                raise SpecError(at, value, "none (a table has one value a field)")
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for function in functions:
            row = [getattr(function, c) for c in COLUMNS]
            writer.writerow("inf" if v == math.inf else v for v in row)
