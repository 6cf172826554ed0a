"""What a workload refuses, and that its parts commute."""

from __future__ import annotations

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import Workload, generate

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("arrivals", "field", "accepted"),
    [
        ([0.0, NAN, 2.0], "workload.arrival_s[1]", "a time >= 0"),
        ([NAN], "workload.arrival_s[0]", "a time >= 0"),
        ([-1.0, 0.0, 2.0], "workload.arrival_s[0]", "a time >= 0"),
        ([0.0, 1.0, INF], "workload.arrival_s[2]", "a time >= 0"),
        ([0.0, 3.0, 2.0], "workload.arrival_s[2]", "at least the arrival before it (3.0)"),
        ([0.0, 3.0, 20.0], "workload.horizon_s", "a time > 0 and >= 20.0"),
    ],
)
def test_a_bad_time_is_named(arrivals: list[float], field: str, accepted: str) -> None:
    with pytest.raises(SpecError) as caught:
        Workload(np.array(arrivals), np.zeros(len(arrivals), np.int32), ("a",), 10.0)
    assert (caught.value.field, caught.value.accepted) == (field, accepted)


@pytest.mark.parametrize("horizon_s", [0.0, -1.0, NAN, INF])
def test_a_bad_horizon_is_refused(horizon_s: float) -> None:
    with pytest.raises(SpecError, match=r"workload\.horizon_s"):
        Workload(np.zeros(0), np.zeros(0, np.int32), ("a",), horizon_s)


@pytest.mark.parametrize("bad", [-1.0, NAN])
def test_a_bad_service_time_is_named(bad: float) -> None:
    arrival_s, function = np.array([0.0, 1.0]), np.zeros(2, np.int32)
    with pytest.raises(SpecError, match=r"workload\.service_s\[1\]"):
        Workload(arrival_s, function, ("a",), 10.0, np.array([1.0, bad]))


def test_an_index_outside_the_names_is_refused() -> None:
    for index in (-1, 1):
        with pytest.raises(SpecError, match=r"workload\.function = .*0\.\.0"):
            Workload(np.zeros(1), np.full(1, index, np.int32), ("a",), 10.0)


def test_a_window_of_some_functions_is_some_functions_of_a_window() -> None:
    whole = generate(np.random.default_rng(0), functions=20, hours=4.0, requests_per_s=0.2)
    chosen = np.array([17, 3, 4])
    one = whole.window(3600.0, 7000.0).select(chosen)
    other = whole.select(chosen).window(3600.0, 7000.0)
    assert len(one) > 0 and one.names == other.names and one.horizon_s == other.horizon_s
    for column in ("arrival_s", "function", "service_s"):
        assert getattr(one, column).tobytes() == getattr(other, column).tobytes()
