"""RainbowCake's lifetimes by hand, its expectations against numerical integration over the gap."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.startup.rainbowcake import (
    Container,
    Layer,
    bound_s,
    lifetime_s,
    quantile_s,
)

CONTAINER = Container(Layer(4.0, 8.0, 10.0), Layer(2.0, 1.0, 20.0), Layer(1.0, 0.25, 30.0))
layers = st.builds(Layer, st.floats(0.0, 60.0), st.floats(0.0, 64.0), st.floats(0.0, 500.0))
containers = st.builds(Container, layers, layers, layers)


def test_the_quantile_of_the_gaps_by_hand() -> None:
    assert quantile_s(100.0, 0.8) == pytest.approx(100.0 * math.log(5.0))
    assert quantile_s(7.0, 0.0) == 0.0


def test_the_bound_by_hand() -> None:
    # 0.996 x 2 s / (0.004 x 512 MiB)
    assert bound_s(2.0, 0.5) == pytest.approx(0.97265625)
    assert bound_s(1.0, 1.0 / 1024.0, alpha=0.5) == 1.0


@given(st.floats(0.1, 60.0), st.floats(0.01, 64.0), st.floats(0.01, 0.999))
def test_at_the_bound_the_memory_spent_weighs_as_much_as_the_start_up(
    startup_s: float, memory_gib: float, alpha: float
) -> None:
    idle_s = bound_s(startup_s, memory_gib, alpha)
    spent = (1.0 - alpha) * memory_gib * 1024.0 * idle_s
    assert spent == pytest.approx(alpha * startup_s, rel=1e-9)


def test_the_lifetime_is_the_lesser_of_quantile_and_bound() -> None:
    bound = bound_s(2.0, 0.5)
    assert lifetime_s(1000.0, 2.0, 0.5) == bound
    assert lifetime_s(0.1, 2.0, 0.5) == quantile_s(0.1)


def test_an_idle_container_is_downgraded_layer_by_layer() -> None:
    ages = (0.0, 9.9, 10.0, 29.9, 30.0, 59.9, 60.0)
    levels = ["user", "user", "lang", "lang", "bare", "bare", "gone"]
    assert [CONTAINER.level(age) for age in ages] == levels
    assert [CONTAINER.startup_s(age) for age in ages] == [0.0, 0.0, 4.0, 4.0, 6.0, 6.0, 7.0]


def test_the_expectations_by_hand() -> None:
    # Ends at 10, 30 and 60 s under a mean gap of 10 s.
    e1, e3, e6 = math.exp(-1.0), math.exp(-3.0), math.exp(-6.0)
    assert CONTAINER.expected_startup_s(10.0) == pytest.approx(4.0 * e1 + 2.0 * e3 + e6)
    memory = 80.0 * (1.0 - e1) + 10.0 * (e1 - e3) + 2.5 * (e3 - e6)
    assert CONTAINER.expected_gib_s(10.0) == pytest.approx(memory)


@pytest.mark.parametrize("mean_gap_s", [1.0, 15.0, 200.0])
def test_the_expectations_equal_sums_over_the_quantiles_of_the_gap(mean_gap_s: float) -> None:
    chances = (np.arange(20_000) + 0.5) / 20_000
    gaps = -mean_gap_s * np.log1p(-chances)
    startups = [CONTAINER.startup_s(gap) for gap in gaps]
    assert np.mean(startups) == pytest.approx(CONTAINER.expected_startup_s(mean_gap_s), abs=1e-3)
    idle = np.minimum(gaps, 10.0) * 8.0
    idle += np.clip(gaps - 10.0, 0.0, 20.0) * 1.0 + np.clip(gaps - 30.0, 0.0, 30.0) * 0.25
    assert np.mean(idle) == pytest.approx(CONTAINER.expected_gib_s(mean_gap_s), rel=1e-3)


@given(containers, st.floats(1.0, 1000.0), st.floats(0.0, 100.0))
def test_a_longer_lifetime_never_costs_start_up(
    container: Container, mean_gap_s: float, more_s: float
) -> None:
    longer = replace(container.user, lifetime_s=container.user.lifetime_s + more_s)
    before_s = container.expected_startup_s(mean_gap_s)
    assert replace(container, user=longer).expected_startup_s(mean_gap_s) <= before_s + 1e-12


def test_a_layer_kept_for_ever_is_always_there() -> None:
    kept = replace(CONTAINER, user=replace(CONTAINER.user, lifetime_s=math.inf))
    assert kept.expected_startup_s(10.0) == 0.0
    assert kept.expected_gib_s(10.0) == 80.0
    assert kept.level(1e12) == "user"


def test_bad_arguments_are_refused_by_name() -> None:
    with pytest.raises(SpecError, match="quantile"):
        quantile_s(1.0, 1.0)
    with pytest.raises(SpecError, match="memory_gib"):
        bound_s(1.0, 0.0)
    with pytest.raises(SpecError, match="alpha"):
        bound_s(1.0, 1.0, alpha=1.0)
    with pytest.raises(SpecError, match="lifetime_s"):
        Layer(1.0, 1.0, -1.0)
    with pytest.raises(SpecError, match="mean_gap_s"):
        CONTAINER.expected_startup_s(0.0)
