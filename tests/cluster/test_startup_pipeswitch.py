"""PipeSwitch's pipeline against hand-worked times, its grouping against all groupings."""

import math
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.startup.pipeswitch import Groups, Layers, even_s

times = st.floats(0.0, 10.0)
models = st.lists(st.tuples(times, times), min_size=1, max_size=10).flatmap(
    lambda rows: st.builds(
        Layers,
        st.just(tuple(gib for gib, _ in rows)),
        st.just(tuple(seconds for _, seconds in rows)),
        st.floats(0.5, 20.0),
        st.floats(0.0, 2.0),
    )
)


def groupings(n: int) -> list[Groups]:
    cuts = (c for k in range(n) for c in combinations(range(1, n), k))
    return [tuple(b - a for a, b in pairwise((0, *cut, n))) for cut in cuts]


def test_three_layers_by_hand() -> None:
    # Copies of 2 s, 4 s, 2 s and 1 s a group; computes of 3 s, 1 s, 5 s.
    model = Layers((4.0, 8.0, 4.0), (3.0, 1.0, 5.0), gib_s=2.0, alpha_s=1.0)
    # Copies end at 3, 8, 11; computes at 6, 9, 16.
    assert model.finish_s((1, 1, 1)) == 16.0
    assert model.copy_s((1, 1, 1)) == 11.0
    assert model.overlap_s((1, 1, 1)) == 11.0 + 9.0 - 16.0
    # Copies end at 7, 10: computes at 11, 16.
    assert model.finish_s((2, 1)) == 16.0
    # Copies end at 3, 10: computes at 6, 16.
    assert model.finish_s((1, 2)) == 16.0
    assert model.finish_s((3,)) == 18.0
    assert model.overlap_s((3,)) == 0.0


def test_without_overhead_one_group_a_layer_is_best_by_hand() -> None:
    model = Layers((1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0), gib_s=1.0)
    assert model.finish_s((1, 1, 1, 1)) == 5.0
    assert model.finish_s(model.best_groups()) == 5.0


def test_a_large_overhead_leaves_one_group() -> None:
    assert Layers((1.0,) * 5, (0.1,) * 5, gib_s=1.0, alpha_s=9.0).best_groups() == (5,)


@settings(max_examples=150, deadline=None)
@given(models)
def test_the_best_grouping_equals_brute_force_up_to_ten_layers(model: Layers) -> None:
    expected = min(model.finish_s(g) for g in groupings(len(model.gib)))
    assert model.finish_s(model.best_groups()) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("alpha_s", [0.0, 0.01, 0.1, 1.0])
def test_the_best_grouping_equals_brute_force_on_ten_unequal_layers(alpha_s: float) -> None:
    gib = tuple(0.1 * (1 + (7 * i) % 10) for i in range(10))
    seconds = tuple(0.05 * (1 + (3 * i) % 10) for i in range(10))
    model = Layers(gib, seconds, gib_s=2.0, alpha_s=alpha_s)
    assert len(groupings(10)) == 512
    expected = min(model.finish_s(g) for g in groupings(10))
    assert model.finish_s(model.best_groups()) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None)
@given(models, st.data())
def test_a_switch_takes_between_the_longer_part_and_the_sum(
    model: Layers, data: st.DataObject
) -> None:
    groups = data.draw(st.sampled_from(groupings(len(model.gib))))
    copy_s, compute_s = model.copy_s(groups), math.fsum(model.compute_s)
    slack = 1e-9 * (1.0 + copy_s + compute_s)
    assert max(copy_s, compute_s) - slack <= model.finish_s(groups) <= copy_s + compute_s + slack
    assert -slack <= model.overlap_s(groups) <= min(copy_s, compute_s) + slack


@given(times, times, st.integers(1, 12), st.floats(0.5, 20.0), st.floats(0.0, 1.0))
def test_equal_groups_have_a_closed_form(
    gib: float, compute_s: float, n: int, gib_s: float, alpha_s: float
) -> None:
    model = Layers((gib / n,) * n, (compute_s / n,) * n, gib_s, alpha_s)
    expected = model.finish_s((1,) * n)
    assert even_s(gib, compute_s, n, gib_s, alpha_s) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"gib": ()}, "gib"),
        ({"gib": (1.0, -1.0)}, "gib"),
        ({"compute_s": (1.0,)}, "compute_s"),
        ({"gib_s": 0.0}, "gib_s"),
        ({"alpha_s": math.nan}, "alpha_s"),
    ],
)
def test_bad_layers_are_refused_by_name(change: dict[str, object], field: str) -> None:
    values: dict[str, object] = {"gib": (1.0, 1.0), "compute_s": (1.0, 1.0), "gib_s": 1.0}
    with pytest.raises(SpecError) as refused:
        Layers(**(values | change))  # type: ignore[arg-type]
    assert refused.value.field == field


@pytest.mark.parametrize("groups", [(1,), (2, 1), (0, 2), ()])
def test_groups_that_do_not_cover_the_layers_are_refused(groups: Groups) -> None:
    with pytest.raises(SpecError, match="groups"):
        Layers((1.0, 1.0), (1.0, 1.0), 1.0).finish_s(groups)
