"""Azure Functions 2019: invocation counts a minute, and mean durations, become requests.

The files are the ones of the public data set (CC-BY 4.0), gzipped or plain, joined by
HashFunction. A count says how many requests came in a minute, not when: each is put uniformly in
its minute. `timers="fixed_offset"` instead gives every function that looks like a timer one offset
within the minute plus normal jitter, an assumption that favours prewarming.

Shapes: F functions, M minutes, N requests.  Units: seconds; minutes carry the file's labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import tables
from stoker.envs.workload.workload import Workload

MINUTE_S = 60.0
KEYS = ("HashOwner", "HashApp", "HashFunction", "Trigger")
TIMER_SHARE = 0.6
"""A function is a timer when more than this share of its gaps are the same number of minutes."""
TIMER_MIN_GAPS = 3
"""With fewer gaps the share says nothing."""
TIMER_MAX_PER_MINUTE = 4
"""Busier functions are active every minute whatever drives them."""
DURATION_COLUMNS = ("Average", "Count", "Minimum", "Maximum")
MEMORY_COLUMNS = ("SampleCount", "AverageAllocatedMb")


@dataclass(frozen=True)
class Counts:
    """Invocations of each function in each minute."""

    names: tuple[str, ...]
    """HashFunction, one a row. Length F"""
    minutes: NDArray[np.int64]
    """Labels of the minutes, as the header has them, consecutive. Shape: (M,)"""
    counts: NDArray[np.int32]
    """Shape: (F, M)"""


def read_counts(path: str | Path) -> Counts:
    """Read an invocations file; rows with the same HashFunction are added up.

    Raises:
        SpecError: an unknown or missing column, or a count that is no whole number >= 0.
    """
    path = Path(path)
    columns = tables.header(path)
    minutes = [c for c in columns if c.isdecimal()]
    _refuse_unknown(path, [c for c in columns if not c.isdecimal()], KEYS, ())
    marks = np.array([int(c) for c in minutes], np.int64)
    if not len(marks) or bool(np.any(np.diff(marks) != 1)):
        raise SpecError(f"{path.name}: minutes", minutes[:4], "consecutive minutes, at least one")
    data = tables.read(path, {"HashFunction": "text"} | dict.fromkeys(minutes, "int"))
    row, names = tables.labels(data["HashFunction"])
    cells = np.stack([tables.counts(path, c, data[c]) for c in minutes], axis=1)
    if len(names) < len(row):
        total = np.zeros((len(names), len(marks)), np.int32)
        np.add.at(total, row, cells)
        cells = total
    return Counts(names, marks, cells)


def function_durations_s(path: str | Path) -> dict[str, float]:
    """Return the mean duration of each function of a durations file (there in milliseconds)."""
    means = _function_means(Path(path), "Average", DURATION_COLUMNS, ("percentile_Average_",))
    return {name: ms / 1000.0 for name, ms in means.items()}


def function_memory_mb(path: str | Path) -> dict[str, float]:
    """Return the mean allocated megabytes of each function of a memory file that has HashFunction.

    The full data set gives memory by application; sampled editions divide it among functions.
    """
    return _function_means(
        Path(path), "AverageAllocatedMb", MEMORY_COLUMNS, ("AverageAllocatedMb_pct",)
    )


def load(
    path: str | Path,
    durations_path: str | Path | None = None,
    *,
    rng: np.random.Generator,
    start_minute: int | None = None,
    end_minute: int | None = None,
    functions: Sequence[str] | None = None,
    max_per_minute: int | None = None,
    timers: str = "uniform",
    timer_jitter_s: float = 1.0,
    service_range_s: tuple[float, float] = (0.05, 20.0),
) -> Workload:
    """Turn invocation counts into requests.

    Args:
        path: HashFunction and one column a minute.
        durations_path: HashFunction and Average; gives every request its function's mean.
        rng: places the requests in their minutes.
        start_minute: first minute label kept; the workload's time 0.
        end_minute: first minute label left out.
        functions: keep these HashFunction only, in this order.
        max_per_minute: most requests of one function in one minute; the rest are dropped and
            counted in `source`.
        timers: "uniform", or "fixed_offset" for functions that look like timers.
        timer_jitter_s: standard deviation of a timer's jitter.
        service_range_s: service times are clipped to this range.

    Raises:
        SpecError: names the file's line and column, or the option.
    """
    _check_options(max_per_minute, timers, timer_jitter_s, service_range_s)
    path = Path(path)
    trace = _cut(read_counts(path), start_minute, end_minute, functions)
    note = [f"azure_functions_2019 {path.name}"]
    note.append(f"minutes {trace.minutes[0]}-{trace.minutes[-1]}, {len(trace.names)} functions")
    counts = _cap(trace.counts, max_per_minute, note)
    fixed = looks_like_timer(counts) if timers == "fixed_offset" else None
    arrival_s, function = spread(counts, rng, fixed, timer_jitter_s)
    count = 0 if fixed is None else int(fixed.sum())
    note.append("uniform in the minute" + (f", {count} timers at an offset" if count else ""))
    service_s = None
    if durations_path is not None:
        mean_s, said = _join(trace.names, function_durations_s(durations_path), service_range_s)
        service_s = mean_s[function]
        note.append(said)
    horizon_s, source = len(trace.minutes) * MINUTE_S, "; ".join(note)
    return Workload(arrival_s, function, trace.names, horizon_s, service_s, source=source)


def spread(
    counts: NDArray[np.int32],
    rng: np.random.Generator,
    fixed: NDArray[np.bool_] | None = None,
    jitter_s: float = 1.0,
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Place every counted request in its minute; return sorted arrivals and their functions.

    Args:
        counts: requests a function and minute. Shape: (F, M)
        rng: source of the offsets.
        fixed: functions that keep one offset within the minute, plus jitter. Shape: (F,)
        jitter_s: standard deviation of that jitter.
    """
    minute, row = np.nonzero(counts.T)
    repeats = counts[row, minute]
    function = np.repeat(np.asarray(row, np.int32), repeats)
    arrival_s = rng.random(int(repeats.sum(dtype=np.int64)))
    arrival_s *= MINUTE_S
    if fixed is not None:
        offsets_s = rng.random(len(counts)) * MINUTE_S
        timed = np.flatnonzero(fixed[function])
        jitter = rng.normal(0.0, jitter_s, len(timed))
        arrival_s[timed] = offsets_s[function[timed]] + jitter
    arrival_s += np.repeat(minute * MINUTE_S, repeats)
    np.clip(arrival_s, 0.0, counts.shape[1] * MINUTE_S, out=arrival_s)
    order = np.argsort(arrival_s, kind="stable")
    return arrival_s[order], function[order]


def looks_like_timer(counts: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Say which functions' most common gap, in minutes, is most of their gaps. Shape: (F,)."""
    functions, width = counts.shape
    fn, minute = np.nonzero(counts)
    same = fn[1:] == fn[:-1]
    owner, gap = fn[1:][same], np.diff(minute)[same]
    keys, times = np.unique(owner * width + gap, return_counts=True)
    most = np.zeros(functions, np.int64)
    np.maximum.at(most, keys // width, times)
    gaps = np.bincount(owner, minlength=functions)
    active = np.bincount(fn, minlength=functions)
    mean = counts.sum(axis=1, dtype=np.int64) / np.maximum(active, 1)
    timed = (most > TIMER_SHARE * gaps) & (gaps >= TIMER_MIN_GAPS) & (mean <= TIMER_MAX_PER_MINUTE)
    return np.asarray(timed, np.bool_)


def _check_options(
    cap: int | None, timers: str, jitter_s: float, service_range_s: tuple[float, float]
) -> None:
    if cap is not None and cap < 1:
        raise SpecError("max_per_minute", cap, "an integer >= 1, or None")
    if timers not in ("uniform", "fixed_offset"):
        raise SpecError("timers", timers, "uniform | fixed_offset")
    if not (np.isfinite(jitter_s) and jitter_s >= 0.0):
        raise SpecError("timer_jitter_s", jitter_s, "finite, >= 0")
    low, high = service_range_s
    if not 0.0 <= low <= high:
        raise SpecError("service_range_s", service_range_s, "0 <= low <= high")


def _cut(
    trace: Counts, start: int | None, end: int | None, functions: Sequence[str] | None
) -> Counts:
    first, last = int(trace.minutes[0]), int(trace.minutes[-1])
    start = first if start is None else start
    end = last + 1 if end is None else end
    if not first <= start <= last:
        raise SpecError("start_minute", start, f"{first}..{last}")
    if not start < end <= last + 1:
        raise SpecError("end_minute", end, f"{start + 1}..{last + 1}")
    rows, names = np.arange(len(trace.names)), trace.names
    if functions is not None:
        index = {name: row for row, name in enumerate(trace.names)}
        for name in functions:
            if name not in index:
                raise SpecError("functions", name, f"one of the file's {len(names)} HashFunction")
        if len(set(functions)) < len(functions) or not len(functions):
            raise SpecError("functions", len(functions), "at least one name, and no name twice")
        rows, names = np.array([index[f] for f in functions], np.int64), tuple(functions)
    window = slice(start - first, end - first)
    return Counts(names, trace.minutes[window], trace.counts[rows][:, window])


def _cap(counts: NDArray[np.int32], most: int | None, note: list[str]) -> NDArray[np.int32]:
    if most is None:
        return counts
    capped = np.minimum(counts, np.int32(most))
    total, kept = int(counts.sum(dtype=np.int64)), int(capped.sum(dtype=np.int64))
    note.append(f"at most {most} a minute: {total - kept} of {total} dropped")
    return capped


def _join(
    names: tuple[str, ...], durations_s: dict[str, float], service_range_s: tuple[float, float]
) -> tuple[NDArray[np.float64], str]:
    """Find each function's mean duration; the median of the file stands in for missing ones."""
    found = np.array([durations_s.get(name, np.nan) for name in names])
    missing = np.isnan(found)
    found[missing] = np.median(list(durations_s.values()))
    low, high = service_range_s
    said = f"service = mean duration clipped to {low:g}-{high:g} s"
    if missing.any():
        said += f" (median for {int(missing.sum())} functions without one)"
    return np.clip(found, low, high), said


def _function_means(
    path: Path, column: str, known: tuple[str, ...], prefixes: tuple[str, ...]
) -> dict[str, float]:
    _refuse_unknown(path, tables.header(path), KEYS + known, prefixes)
    data = tables.read(path, {"HashFunction": "text", column: "float"})
    row, names = tables.labels(data["HashFunction"])
    if not len(row):
        raise SpecError(f"{path.name}: rows", 0, "at least one function")
    sums = np.bincount(row, weights=tables.times(path, column, data[column]))
    return dict(zip(names, (sums / np.bincount(row)).tolist(), strict=True))


def _refuse_unknown(
    path: Path, columns: Sequence[str], known: tuple[str, ...], prefixes: tuple[str, ...]
) -> None:
    for column in columns:
        if column not in known and not any(column.startswith(p) for p in prefixes):
            raise SpecError(f"{path.name}: column", column, " | ".join(known + prefixes))
