"""Catalyzer's start-up paths against hand-worked times and the inequalities between them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.startup.arguments import PAGE_GIB
from stoker.envs.cluster.startup.catalyzer import PATHS, Sandbox

# 262144 pages; a quarter touched at 1/65536 s each is one second.
ONE = Sandbox(
    sandbox_s=0.5,
    init_s=6.0,
    state_s=0.25,
    specialise_s=0.125,
    fork_s=0.0625,
    image_gib=1.0,
    touched_share=0.25,
    written_share=0.125,
    fault_s=1.0 / 65536.0,
)
seconds = st.floats(0.0, 100.0)
shares = st.floats(0.0, 1.0)
sandboxes = st.builds(
    Sandbox,
    *(seconds for _ in range(5)),
    st.floats(0.01, 100.0),
    shares,
    shares,
    st.floats(1e-8, 1e-3),
)


def test_the_four_paths_by_hand() -> None:
    assert PAGE_GIB * 262144 == 1.0
    assert ONE.faults_s == 1.0
    assert [ONE.startup_s(path) for path in PATHS] == [6.5, 1.75, 1.375, 0.0625]


def test_the_quickest_path_is_one_whose_asset_is_ready() -> None:
    assert ONE.quickest([]) == "cold"
    assert ONE.quickest(["restore"]) == "restore"
    assert ONE.quickest(["restore", "zygote"]) == "zygote"
    assert ONE.quickest(PATHS) == "fork"
    assert replace(ONE, state_s=9.0).quickest(["restore", "zygote"]) == "cold"


def test_free_faults_leave_only_the_fixed_parts_to_compare() -> None:
    free = replace(ONE, fault_s=0.0)
    assert free.break_even_share() == 1.0
    assert replace(free, state_s=9.0).break_even_share() == 0.0
    assert replace(ONE, init_s=2.25).break_even_share() == 0.5


def test_a_template_and_its_children_by_hand() -> None:
    assert [ONE.forked_gib(k) for k in (0, 1, 8)] == [1.0, 1.125, 2.0]


@given(sandboxes)
def test_restoring_beats_a_cold_start_below_the_break_even_share(s: Sandbox) -> None:
    edge = s.break_even_share()
    gain_s = s.startup_s("cold") - s.startup_s("restore")
    if s.touched_share < edge * (1 - 1e-9) - 1e-9:
        assert gain_s > -1e-9
    elif s.touched_share > edge * (1 + 1e-9) + 1e-9:
        assert gain_s < 1e-9


@given(sandboxes)
def test_a_zygote_saves_the_sandbox_and_costs_the_specialisation(s: Sandbox) -> None:
    saved_s = s.startup_s("restore") - s.startup_s("zygote")
    assert saved_s == pytest.approx(s.sandbox_s - s.specialise_s, abs=1e-7)


@given(sandboxes, st.integers(1, 1000))
def test_a_template_saves_memory_beyond_as_many_children_as_their_private_share_allows(
    s: Sandbox, children: int
) -> None:
    # k separate images against image x (1 + k w): sharing pays from k > 1 / (1 - w) on.
    saved_gib = children * s.image_gib - s.forked_gib(children)
    assert saved_gib == pytest.approx(
        s.image_gib * (children * (1.0 - s.written_share) - 1.0), rel=1e-9, abs=1e-7
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [({"sandbox_s": -1.0}, "sandbox_s"), ({"touched_share": 1.5}, "touched_share")],
)
def test_bad_figures_are_refused_by_name(change: dict[str, float], field: str) -> None:
    with pytest.raises(SpecError) as refused:
        replace(ONE, **change)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_an_unknown_path_and_negative_children_are_refused() -> None:
    with pytest.raises(SpecError, match="path"):
        ONE.startup_s("teleport")
    with pytest.raises(SpecError, match="children"):
        ONE.forked_gib(-1)
