"""ServerlessLLM's pipelined load against a chunk-by-chunk pipeline and hand-worked times."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.startup.serverlessllm import (
    Route,
    choose,
    chunked_load_s,
    estimate_s,
    limit_load_s,
    store_and_forward_s,
)

sizes = st.floats(0.0, 200.0)
legs = st.lists(st.floats(0.1, 100.0), min_size=1, max_size=4)


def stepped_load_s(size_gib: float, legs_gib_s: list[float], chunk_gib: float) -> float:
    """Carry the chunks one by one; a leg takes a chunk when both are free."""
    free_s = [0.0] * len(legs_gib_s)
    left_gib = size_gib
    while left_gib > 0.0:
        chunk = min(chunk_gib, left_gib)
        left_gib -= chunk
        at_s = 0.0
        for i, leg in enumerate(legs_gib_s):
            at_s = free_s[i] = max(at_s, free_s[i]) + chunk / leg
    return free_s[-1]


def test_three_chunks_over_disk_and_pcie_by_hand() -> None:
    # 12 GiB in chunks of 4: disk 2 s a chunk, PCIe 1 s; the last leaves the disk at 6 s.
    assert chunked_load_s(12.0, [2.0, 4.0], 4.0) == 7.0
    assert store_and_forward_s(12.0, [2.0, 4.0]) == 9.0
    assert limit_load_s(12.0, [2.0, 4.0]) == 6.0


def test_a_smaller_last_chunk_by_hand() -> None:
    # 10 GiB in 4 + 4 + 2 at 2 then 1 GiB/s: the second leg is busy from 2 s on, for 10 s.
    assert chunked_load_s(10.0, [2.0, 1.0], 4.0) == 12.0
    # The other way round the rest leaves the slow leg at 10 s and takes 1 s more.
    assert chunked_load_s(10.0, [1.0, 2.0], 4.0) == 11.0


@given(sizes, legs, st.integers(1, 40))
def test_the_closed_form_equals_the_pipeline_stepped_chunk_by_chunk(
    size_gib: float, rates: list[float], chunks: int
) -> None:
    chunk_gib = max(size_gib / (chunks - 0.4), 1e-3)
    expected = stepped_load_s(size_gib, rates, chunk_gib)
    assert chunked_load_s(size_gib, rates, chunk_gib) == pytest.approx(expected, rel=1e-9)


@given(st.floats(0.1, 200.0), legs, st.integers(1, 10_000))
def test_equal_chunks_cost_one_of_each_leg_and_the_rest_of_the_slowest(
    size_gib: float, rates: list[float], chunks: int
) -> None:
    chunk_gib = size_gib / chunks
    expected = chunk_gib * (math.fsum(1.0 / r for r in rates) + (chunks - 1) / min(rates))
    found = chunked_load_s(size_gib, rates, chunk_gib)
    assert found == pytest.approx(expected, rel=1e-9)
    limit_s = limit_load_s(size_gib, rates)
    assert limit_s * (1 - 1e-9) <= found <= store_and_forward_s(size_gib, rates) * (1 + 1e-9)
    assert found - limit_s <= chunk_gib * math.fsum(1.0 / r for r in rates) * (1 + 1e-9)


def test_an_infinite_leg_takes_no_time() -> None:
    assert chunked_load_s(8.0, [math.inf, 2.0], 1.0) == 4.0
    assert limit_load_s(8.0, [math.inf]) == 0.0


def test_the_estimate_is_the_wait_plus_the_slowest_leg_and_the_least_is_chosen() -> None:
    host = Route(3.0, (20.0,))
    disk = Route(0.0, (5.0, 20.0))
    remote = Route(0.0, (1.0, 5.0, 20.0))
    assert [estimate_s(20.0, r) for r in (host, disk, remote)] == [4.0, 4.0, 20.0]
    assert choose(20.0, [remote, host, disk]) == 1
    assert choose(10.0, [remote, host, disk]) == 2
    assert choose(40.0, [remote, host, disk]) == 1


@pytest.mark.parametrize(
    ("size_gib", "rates", "chunk_gib", "field"),
    [
        (-1.0, [1.0], 1.0, "size_gib"),
        (math.inf, [1.0], 1.0, "size_gib"),
        (1.0, [], 1.0, "legs_gib_s"),
        (1.0, [0.0], 1.0, "legs_gib_s"),
        (1.0, [1.0], 0.0, "chunk_gib"),
    ],
)
def test_bad_arguments_are_refused_by_name(
    size_gib: float, rates: list[float], chunk_gib: float, field: str
) -> None:
    with pytest.raises(SpecError) as refused:
        chunked_load_s(size_gib, rates, chunk_gib)
    assert refused.value.field == field


def test_no_route_and_a_negative_wait_are_refused() -> None:
    with pytest.raises(SpecError, match="routes"):
        choose(1.0, [])
    with pytest.raises(SpecError, match="wait_s"):
        estimate_s(1.0, Route(-1.0, (1.0,)))
