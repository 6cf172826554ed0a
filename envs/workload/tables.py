"""Read CSV files column by column, and say which line is wrong when one is.

Shapes: N rows.  Units: none; the callers attach them.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError

FIRST_LINE = 2
"""Line number of the first row under the header."""

_KINDS = {"int": "a whole number", "float": "a number", "text": "text", "time": "a time stamp"}
_BAD_CELL = re.compile(r"CSV column #(\d+): Row #(\d+): .*invalid value '(.*)'", re.DOTALL)
_BAD_ROW = re.compile(r"Row #(\d+): (Expected \d+ columns), got (\d+)")


def header(path: Path) -> list[str]:
    """Return the column names of a CSV file, gzipped or plain."""
    try:
        opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as stream:
            names: list[str] = next(csv.reader(stream), [])
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SpecError("path", str(path), f"a readable CSV file ({error})") from error
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise SpecError(f"{path.name}:1", name, "column names that differ")
        seen.add(name)
    return names


def read(path: Path, kinds: Mapping[str, str]) -> dict[str, Any]:
    """Read the columns of `kinds` (int, float, text or time) as Arrow columns without gaps.

    Raises:
        SpecError: a column is missing, or a cell is empty, not a number or of the wrong kind.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names = header(path)
    for column in kinds:
        if column not in names:
            raise SpecError(f"{path.name}: column", column, f"a file with it; found {names[:8]}")
    types = {"int": pa.int64(), "float": pa.float64(), "text": pa.string(), "time": None}
    options = arrow_csv.ConvertOptions(
        include_columns=list(kinds),
        column_types={c: types[k] for c, k in kinds.items() if types[k] is not None},
    )
    # One thread: only then does the parser name the row of a bad value.
    reading = arrow_csv.ReadOptions(use_threads=False, block_size=1 << 24)
    parsing = arrow_csv.ParseOptions(ignore_empty_lines=False)
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            table = arrow_csv.read_csv(stream, reading, parsing, options)
    except pa.ArrowInvalid as error:
        raise _translate(path, names, kinds, str(error)) from error
    except OSError as error:  # the file ends within its compressed stream
        raise SpecError("path", str(path), f"a whole CSV file ({error})") from error
    for column in kinds:
        _refuse_gaps(path, column, table[column])
    return {column: table[column] for column in kinds}


def _refuse_gaps(path: Path, column: str, cells: Any) -> None:
    if not cells.null_count:
        return
    row = int(np.flatnonzero(cells.is_null().to_numpy())[0])
    raise SpecError(f"{path.name}:{row + FIRST_LINE} {column}", "empty or NaN", "a value")


def _translate(path: Path, names: list[str], kinds: Mapping[str, str], said: str) -> SpecError:
    """Turn the parser's complaint into one that names the line and the column."""
    cell = _BAD_CELL.search(said)
    if cell:
        column = names[int(cell[1])]
        return SpecError(f"{path.name}:{cell[2]} {column}", cell[3], _KINDS[kinds[column]])
    row = _BAD_ROW.search(said)
    if row:
        return SpecError(
            f"{path.name}:{row[1]} columns", int(row[3]), row[2].removeprefix("Expected ")
        )
    return SpecError("path", str(path), f"a CSV file ({said})")


def times(path: Path, column: str, cells: Any) -> NDArray[np.float64]:
    """Check that a float column holds finite numbers >= 0. Shape: (N,)."""
    values = np.asarray(cells.to_numpy(), np.float64)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0.0)))
    if len(bad):
        row = int(bad[0])
        raise SpecError(
            f"{path.name}:{row + FIRST_LINE} {column}", float(values[row]), "a finite number >= 0"
        )
    return values


def ascending(path: Path, column: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Check that no time is before the one of the line before. Shape: (N,)."""
    late = np.flatnonzero(np.diff(values) < 0.0)
    if len(late):
        at = int(late[0]) + 1
        field = f"{path.name}:{at + FIRST_LINE} {column}"
        raise SpecError(field, float(values[at]), f">= {values[at - 1]} of the line before")
    return values


def known(path: Path, columns: Collection[str]) -> None:
    """Refuse a file with a column that is none of these."""
    for column in header(path):
        if column not in columns:
            raise SpecError(f"{path.name}: column", column, " | ".join(columns))


def some(path: Path, rows: int) -> None:
    """Refuse a file without a row."""
    if not rows:
        raise SpecError(f"{path.name}: rows", 0, "at least one request")


def text(path: Path) -> str:
    """Return a text file, gzipped or plain, whole."""
    try:
        opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as stream:
            whole: str = stream.read()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SpecError("path", str(path), f"a whole text file ({error})") from error
    return whole


def counts(path: Path, column: str, cells: Any) -> NDArray[np.int32]:
    """Check that an integer column holds numbers >= 0 that fit 32 bits. Shape: (N,)."""
    values = np.asarray(cells.to_numpy(), np.int64)
    bad = np.flatnonzero((values < 0) | (values > np.iinfo(np.int32).max))
    if len(bad):
        row = int(bad[0])
        raise SpecError(
            f"{path.name}:{row + FIRST_LINE} {column}", int(values[row]), "an integer in 0..2^31-1"
        )
    return values.astype(np.int32)


def labels(cells: Any) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Number the distinct texts of a column in order of first appearance. Shape: (N,)."""
    coded = cells.combine_chunks().dictionary_encode()
    return np.asarray(coded.indices.to_numpy(), np.int32), tuple(coded.dictionary.to_pylist())
