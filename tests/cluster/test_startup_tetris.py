"""Tetris' tensor store against unions recomputed from scratch and the closed form of fine-tunes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.startup.tetris import TensorStore, fine_tunes_gib, resident_gib

SIZES = {"embedding": 1.0, "trunk": 4.0, "head": 0.5, "adapter": 0.25, "norm": 0.0}
BERT = {"embedding": 1.0, "trunk": 4.0, "bert.head": 0.5}
TUNED = {"embedding": 1.0, "trunk": 4.0, "tuned.head": 0.5}
models = st.lists(
    st.sets(st.sampled_from(sorted(SIZES))).map(lambda names: {n: SIZES[n] for n in names}),
    max_size=12,
)


def test_two_fine_tunes_by_hand() -> None:
    store = TensorStore()
    assert store.add(BERT) == 5.5
    assert store.shared_gib(TUNED) == 5.0
    assert store.add(TUNED) == 0.5
    assert store.resident_gib == 6.0
    assert store.remove(BERT) == 0.5
    assert store.resident_gib == 5.5
    assert store.remove(TUNED) == 5.5
    assert store.resident_gib == 0.0


def test_instances_of_one_model_hold_it_once_until_the_last_leaves() -> None:
    store = TensorStore()
    assert [store.add(BERT) for _ in range(3)] == [5.5, 0.0, 0.0]
    assert [store.remove(BERT) for _ in range(3)] == [0.0, 0.0, 5.5]


@given(st.floats(0.01, 100.0), st.integers(0, 30), st.floats(0.0, 1.0))
def test_fine_tunes_equal_the_union_of_their_tensors(
    size_gib: float, copies: int, shared: float
) -> None:
    base = shared * size_gib
    tunes = [{"base": base, f"own{i}": size_gib - base} for i in range(copies)]
    expected = resident_gib(tunes)
    assert fine_tunes_gib(size_gib, copies, shared) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_fine_tunes_by_hand_and_the_density_limit() -> None:
    assert fine_tunes_gib(8.0, 5, 0.75) == 16.0
    assert fine_tunes_gib(8.0, 5, 0.0) == 40.0
    assert fine_tunes_gib(8.0, 5, 1.0) == 8.0
    # Density grows towards 1 / (1 - rho).
    assert 8.0 * 10**6 / fine_tunes_gib(8.0, 10**6, 0.75) == pytest.approx(4.0, rel=1e-5)


@given(models)
def test_resident_bytes_are_the_union_in_any_order(multiset: list[dict[str, float]]) -> None:
    union = math.fsum(SIZES[name] for name in set().union(*multiset))
    assert resident_gib(multiset) == union
    assert resident_gib(reversed(multiset)) == union


@given(models, st.randoms(use_true_random=False))
def test_after_any_removals_the_union_of_the_rest_is_held(
    multiset: list[dict[str, float]], random: object
) -> None:
    store = TensorStore()
    loaded = sum(store.add(tensors) for tensors in multiset)
    random.shuffle(multiset)  # type: ignore[attr-defined]
    freed = 0.0
    while multiset:
        freed += store.remove(multiset.pop())
        assert store.resident_gib == resident_gib(multiset)
        assert loaded - freed == store.resident_gib


@given(models)
def test_what_is_shared_and_what_is_loaded_make_up_the_model(
    multiset: list[dict[str, float]],
) -> None:
    store = TensorStore()
    for tensors in multiset:
        shared_gib = store.shared_gib(tensors)
        assert shared_gib + store.add(tensors) == math.fsum(tensors.values())


def test_bad_arguments_are_refused_by_name() -> None:
    store = TensorStore()
    store.add(BERT)
    with pytest.raises(SpecError, match=r"tensor\[trunk\]"):
        store.add({"trunk": 5.0})
    with pytest.raises(SpecError, match=r"tensor\[x\]"):
        store.add({"x": -1.0})
    with pytest.raises(SpecError, match=r"tensor\[x\]"):
        store.remove({"x": 1.0})
    with pytest.raises(SpecError, match="shared"):
        fine_tunes_gib(1.0, 1, 1.5)
    with pytest.raises(SpecError, match="copies"):
        fine_tunes_gib(1.0, -1, 0.5)
