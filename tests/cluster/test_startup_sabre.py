"""Sabre's compressed restore against hand-worked times, its break-even points as inequalities."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.startup.arguments import PAGE_GIB
from stoker.envs.cluster.startup.sabre import SnapshotStore

rates = st.floats(0.1, 100.0)
stores = st.builds(SnapshotStore, rates, st.floats(1.0, 5.0), rates, st.booleans())


def test_a_restore_by_hand() -> None:
    store = SnapshotStore(disk_gib_s=2.0, ratio=4.0, decompress_gib_s=16.0)
    assert store.raw_s(16.0) == 8.0
    assert store.restore_s(16.0) == 3.0
    assert replace(store, pipelined=True).restore_s(16.0) == 2.0
    assert store.break_even_gib_s() == 12.0
    assert replace(store, pipelined=True).break_even_gib_s() == 16.0
    assert replace(store, decompress_gib_s=math.inf).restore_s(16.0) == 2.0


@given(stores, st.floats(0.01, 100.0))
def test_compression_pays_below_the_break_even_rate_and_only_there(
    store: SnapshotStore, size_gib: float
) -> None:
    edge = store.break_even_gib_s()
    assume(not math.isclose(store.disk_gib_s, edge, rel_tol=1e-6) and store.ratio != 1.0)
    pays = store.restore_s(size_gib) < store.raw_s(size_gib)
    assert pays == (store.disk_gib_s < edge)


@given(stores)
def test_at_the_break_even_rate_both_take_as_long(store: SnapshotStore) -> None:
    edge = store.break_even_gib_s()
    assume(edge > 1e-6)
    at_edge = replace(store, disk_gib_s=edge)
    assert at_edge.restore_s(3.0) == pytest.approx(at_edge.raw_s(3.0), rel=1e-9)


def test_an_uncompressed_snapshot_never_pays() -> None:
    store = SnapshotStore(disk_gib_s=2.0, decompress_gib_s=8.0)
    assert store.break_even_gib_s() == 0.0
    assert store.restore_s(1.0) > store.raw_s(1.0)


def test_a_prefetched_working_set_by_hand() -> None:
    store = SnapshotStore(disk_gib_s=2.0, ratio=4.0)
    # 1 GiB recorded in 1/8 s, 1024 missed pages at 1/4096 s each.
    assert store.prefetch_s(1.0, 1024, 1.0 / 4096.0) == 0.375


@given(stores, st.floats(1e-7, 1e-3), st.integers(1, 100_000), st.floats(0.0, 1.0))
def test_prefetching_pays_above_the_break_even_use(
    store: SnapshotStore, fault_s: float, pages: int, used: float
) -> None:
    assume(not math.isclose(used, store.break_even_use(fault_s), rel_tol=1e-6))
    pays = store.prefetch_s(pages * PAGE_GIB, 0, fault_s) < used * pages * fault_s
    assert pays == (used > store.break_even_use(fault_s))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"disk_gib_s": 0.0}, "disk_gib_s"),
        ({"ratio": 0.5}, "ratio"),
        ({"decompress_gib_s": -1.0}, "decompress_gib_s"),
    ],
)
def test_bad_stores_are_refused_by_name(change: dict[str, float], field: str) -> None:
    with pytest.raises(SpecError) as refused:
        replace(SnapshotStore(1.0), **change)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_bad_sizes_and_pages_are_refused() -> None:
    with pytest.raises(SpecError, match="size_gib"):
        SnapshotStore(1.0).restore_s(-1.0)
    with pytest.raises(SpecError, match="missed_pages"):
        SnapshotStore(1.0).prefetch_s(1.0, -1, 1.0)
