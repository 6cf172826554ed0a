"""Azure Functions 2019: counts become requests, and bad files are named by line and column."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import azure_functions

HEADER = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n"
TWO = HEADER + "o,p,f,http,2,0,3\no,p,g,timer,0,1,0\n"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def write(folder: Path, text: str, name: str = "inv.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def per_minute(workload: object, minutes: int) -> list[list[int]]:
    table = np.zeros((len(workload.names), minutes), int)  # type: ignore[attr-defined]
    minute = (workload.arrival_s // 60.0).astype(int)  # type: ignore[attr-defined]
    np.add.at(table, (workload.function, minute), 1)  # type: ignore[attr-defined]
    return table.tolist()


def test_every_request_falls_in_its_own_minute(tmp_path: Path) -> None:
    w = azure_functions.load(write(tmp_path, TWO), rng=rng())
    assert per_minute(w, 3) == [[2, 0, 3], [0, 1, 0]]
    assert w.names == ("f", "g")
    assert w.horizon_s == 180.0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    path = write(tmp_path, TWO)
    one, two, other = (azure_functions.load(path, rng=rng(s)) for s in (1, 1, 2))
    assert one.arrival_s.tobytes() == two.arrival_s.tobytes()
    assert one.function.tobytes() == two.function.tobytes()
    assert one.arrival_s.tobytes() != other.arrival_s.tobytes()


def test_a_gzipped_file_reads_as_the_plain_one(tmp_path: Path) -> None:
    zipped = tmp_path / "inv.csv.gz"
    zipped.write_bytes(gzip.compress(TWO.encode()))
    a = azure_functions.load(write(tmp_path, TWO), rng=rng())
    b = azure_functions.load(zipped, rng=rng())
    assert a.arrival_s.tolist() == b.arrival_s.tolist()


def test_a_window_starts_at_zero_and_leaves_the_end_minute_out(tmp_path: Path) -> None:
    w = azure_functions.load(write(tmp_path, TWO), rng=rng(), start_minute=2, end_minute=4)
    assert w.horizon_s == 120.0
    assert per_minute(w, 2) == [[0, 3], [1, 0]]
    assert "minutes 2-3" in w.source


def test_requests_above_the_cap_are_dropped_and_counted_in_the_source(tmp_path: Path) -> None:
    w = azure_functions.load(write(tmp_path, TWO), rng=rng(), max_per_minute=2)
    assert per_minute(w, 3) == [[2, 0, 2], [0, 1, 0]]
    assert "at most 2 a minute: 1 of 6 dropped" in w.source


def test_chosen_functions_come_in_the_order_asked_for(tmp_path: Path) -> None:
    w = azure_functions.load(write(tmp_path, TWO), rng=rng(), functions=["g"])
    assert w.names == ("g",)
    assert len(w) == 1


def test_rows_of_the_same_function_are_added_up(tmp_path: Path) -> None:
    text = HEADER + "o,p,f,http,1,0,0\no,q,f,queue,1,0,2\n"
    w = azure_functions.load(write(tmp_path, text), rng=rng())
    assert per_minute(w, 3) == [[2, 0, 2]]


def test_service_is_the_mean_in_seconds_clipped_and_the_median_where_missing(
    tmp_path: Path,
) -> None:
    inv = write(tmp_path, TWO + "o,p,h,http,1,0,0\n")
    dur = write(tmp_path, "HashFunction,Average,Count\nf,1500,1\ng,90000,1\n", "dur.csv")
    w = azure_functions.load(inv, dur, rng=rng())
    by_name = {w.names[f]: s for f, s in zip(w.function, w.service_s, strict=True)}
    # 1500 ms; 90 s clipped to 20; h: median of 1.5 and 90, clipped.
    assert by_name == {"f": 1.5, "g": 20.0, "h": 20.0}
    assert "median for 1 functions" in w.source


def test_memory_is_the_mean_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "HashFunction,SampleCount,AverageAllocatedMb\nf,3,12.5\n", "m.csv")
    assert azure_functions.function_memory_mb(path) == {"f": 12.5}


def test_a_timer_is_a_function_with_mostly_equal_gaps() -> None:
    counts = np.zeros((4, 30), np.int32)
    counts[0, ::5] = 1  # every five minutes
    counts[1, [0, 1, 3, 8, 20]] = 1  # gaps 1 2 5 12
    counts[2, [0, 5]] = 1  # one gap says nothing
    counts[3, :] = 50  # busy, not a timer
    assert azure_functions.looks_like_timer(counts).tolist() == [True, False, False, False]


def test_a_share_of_exactly_six_tenths_is_no_timer() -> None:
    counts = np.zeros((1, 40), np.int32)
    counts[0, [0, 5, 10, 15, 22, 30]] = 1  # gaps 5 5 5 7 8
    assert azure_functions.looks_like_timer(counts).tolist() == [False]


def test_a_timer_keeps_its_offset_within_the_jitter(tmp_path: Path) -> None:
    header = "HashFunction," + ",".join(str(m) for m in range(1, 61)) + "\n"
    row = "f," + ",".join("1" if m % 5 == 2 else "0" for m in range(60)) + "\n"
    path = write(tmp_path, header + row)
    w = azure_functions.load(path, rng=rng(3), timers="fixed_offset", timer_jitter_s=0.0)
    assert np.allclose(np.diff(w.arrival_s), 300.0)
    jittered = azure_functions.load(path, rng=rng(3), timers="fixed_offset")
    assert 0.0 < np.abs(np.diff(jittered.arrival_s) - 300.0).max() < 8.0
    assert "1 timers" in w.source


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (HEADER + "o,p,f,http,1,-2,0\n", "inv.csv:2 2"),
        (HEADER + "o,p,f,http,1,0,0\no,p,g,http,1,nan,0\n", "inv.csv:3 2"),
        (HEADER + "o,p,f,http,1,,0\n", "inv.csv:2 2"),
        (HEADER + "o,p,f,http,1,0,x\n", "inv.csv:2 3"),
        (HEADER + "o,p,f,http,1.5,0,0\n", "inv.csv:2 1"),
        (HEADER + "o,p,f,http,1,0\n", "inv.csv:2 columns"),
        ("HashApp,1,2\np,1,2\n", "inv.csv: column"),
        ("HashFunction,Colour,1\nf,red,1\n", "inv.csv: column"),
        ("HashFunction,1,3\nf,1,1\n", "inv.csv: minutes"),
        ("HashFunction,Trigger\nf,http\n", "inv.csv: minutes"),
    ],
)
def test_a_bad_file_is_named_by_line_and_column(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        azure_functions.load(write(tmp_path, text), rng=rng())
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("start_minute", 0),
        ("start_minute", 4),
        ("end_minute", 5),
        ("end_minute", 1),
        ("max_per_minute", 0),
        ("timers", "cron"),
        ("timer_jitter_s", -1.0),
        ("service_range_s", (2.0, 1.0)),
        ("functions", ["nobody"]),
        ("functions", ["f", "f"]),
    ],
)
def test_a_bad_option_is_named(tmp_path: Path, option: str, value: object) -> None:
    with pytest.raises(SpecError, match=option):
        azure_functions.load(write(tmp_path, TWO), rng=rng(), **{option: value})  # type: ignore[arg-type]


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="readable CSV"):
        azure_functions.load(tmp_path / "none.csv", rng=rng())


def test_the_full_day_sample_holds_18_279_781_requests_of_1250_functions(
    real: Callable[[str], Path],
) -> None:
    w = azure_functions.load(real("azure_functions_2019_sample"), rng=rng())
    assert len(w) == 18_279_781
    assert len(w.names) == 1250
    assert w.horizon_s == 86_400.0


def test_window_counts_of_the_eight_hour_file_equal_its_column_sums(
    real: Callable[[str], Path],
) -> None:
    path = real("azure_functions_2019_d07_invocations")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as stream:
        rows = list(csv.DictReader(stream))
    w = azure_functions.load(path, rng=rng(), start_minute=500, end_minute=560)
    sums = [sum(int(r[str(m)]) for r in rows) for m in range(500, 560)]
    found = np.bincount((w.arrival_s // 60.0).astype(int), minlength=60)
    assert found.tolist() == sums
    whole = azure_functions.load(path, rng=rng())
    assert len(whole) == 2_577_309
    # One function makes 74 % of the requests.
    assert np.bincount(whole.function).max() / len(whole) == pytest.approx(0.743, abs=5e-4)


def test_the_three_day_seven_files_join_without_a_gap(real: Callable[[str], Path]) -> None:
    inv, dur, mem = (
        real(f"azure_functions_2019_d07_{k}") for k in ("invocations", "durations", "memory")
    )
    w = azure_functions.load(inv, dur, rng=rng(), max_per_minute=4)
    assert "without one" not in w.source
    assert "2492430 of 2577309 dropped" in w.source
    assert w.service_s.min() >= 0.05 and w.service_s.max() <= 20.0
    assert set(w.names) == set(azure_functions.function_memory_mb(mem))
