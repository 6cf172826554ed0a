"""Statistics against hand-worked numbers and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from stoker.agents import stats
from stoker.envs.cluster.errors import SpecError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_iqm_drops_a_quarter_at_each_end() -> None:
    assert stats.iqm([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -50.0]) == pytest.approx(3.5)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 21])
def test_iqm_is_scipys_trimmed_mean(n: int, rng: np.random.Generator) -> None:
    values = rng.normal(size=n)
    assert stats.iqm(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25))


def test_ratio_of_sums_of_a_policy_that_always_costs_nine_tenths(rng: np.random.Generator) -> None:
    reference = np.array([10.0, 200.0, 3.0, 47.0])
    for how in ("sum", "median", "geomean"):
        ratio = stats.paired_ratio(0.9 * reference, reference, rng, how)
        assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.9, 0.9, 0.9))
        assert ratio.excludes(1.0)


def test_the_three_ratios_differ_as_worked_by_hand(rng: np.random.Generator) -> None:
    policy, reference = [1.0, 8.0, 9.0], [2.0, 2.0, 9.0]  # ratios 1/2, 4, 1
    assert stats.paired_ratio(policy, reference, rng, "sum").value == pytest.approx(18 / 13)
    assert stats.paired_ratio(policy, reference, rng, "median").value == pytest.approx(1.0)
    assert stats.paired_ratio(policy, reference, rng, "geomean").value == pytest.approx(
        2 ** (1 / 3)
    )


def test_unknown_statistic_names_the_choices(rng: np.random.Generator) -> None:
    with pytest.raises(SpecError, match=r"how = 'mode'.*sum \| median \| geomean"):
        stats.paired_ratio([1.0], [1.0], rng, "mode")


def test_columns_that_are_not_paired_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(SpecError, match="paired columns"):
        stats.paired_ratio([1.0, 2.0], [1.0], rng)


def test_interval_agrees_with_scipys_paired_percentile_bootstrap(rng: np.random.Generator) -> None:
    reference = rng.lognormal(3.0, 0.5, 60)
    policy = reference * rng.normal(0.9, 0.1, 60)
    ours = stats.paired_ratio(policy, reference, rng)
    theirs = scipy.stats.bootstrap(
        (policy, reference),
        lambda p, r, axis: p.sum(axis) / r.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=4000,
        rng=rng,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.1 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.1 * width)


def test_interval_covers_the_truth_about_as_often_as_it_says(rng: np.random.Generator) -> None:
    hits = 0
    for _ in range(200):
        interval = stats.mean(rng.normal(5.0, 1.0, 30), rng)
        hits += interval.low <= 5.0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_same_seed_gives_the_same_interval() -> None:
    values = np.arange(10.0)
    first, second = (stats.mean(values, np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_strata_keep_the_number_of_cells_of_each_trace(rng: np.random.Generator) -> None:
    strata = np.array(["a", "b", "a", "b", "b"])
    drawn = strata[stats.resample(5, rng, strata)]
    assert np.all((drawn == "a").sum(1) == 2)
    assert set(np.unique(stats.resample(5, rng, strata)[:, 0])) == {0, 2}


def test_strata_of_one_cell_are_pooled_so_that_the_interval_has_a_width(
    rng: np.random.Generator,
) -> None:
    one_seed_each = stats.bootstrap(
        lambda x: x[..., 0].mean(-1), [1.0, 2.0, 9.0], stats.resample(3, rng, ["a", "b", "c"])
    )
    assert one_seed_each.low < 4.0 < one_seed_each.high


def test_cells_of_one_unit_are_drawn_together(rng: np.random.Generator) -> None:
    units = np.array(["a", "b", "a", "b", "c", "c"])
    drawn = stats.resample(6, rng, units=units)
    count = np.stack([(drawn == at).sum(1) for at in range(6)])
    assert np.array_equal(count[0], count[2]) and np.array_equal(count[4], count[5])
    with pytest.raises(SpecError, match="as many for every unit"):
        stats.resample(3, rng, units=["a", "a", "b"])


def test_repeating_a_cell_does_not_narrow_the_interval_when_drawn_as_a_unit(
    rng: np.random.Generator,
) -> None:
    cells = rng.normal(5.0, 1.0, 20)
    alone = stats.mean(cells, rng)
    twice = stats.mean(np.tile(cells, 4), stats.resample(80, rng, units=np.tile(np.arange(20), 4)))
    assert twice.high - twice.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_gap_closed_by_hand(rng: np.random.Generator) -> None:
    heuristic, oracle = [100.0, 60.0], [80.0, 40.0]
    half = stats.gap_closed([90.0, 50.0], heuristic, oracle, rng)
    assert (half.value, half.low, half.high) == pytest.approx((0.5, 0.5, 0.5))
    beyond = stats.gap_closed([70.0, 30.0], heuristic, oracle, rng)
    assert beyond.value == pytest.approx(1.5)


def test_gap_closed_is_undefined_where_the_oracle_is_no_better(rng: np.random.Generator) -> None:
    share = stats.gap_closed([5.0, 5.0], [6.0, 6.0], [6.0, 6.0], rng)
    assert np.isnan([share.value, share.low, share.high]).all()


def test_gap_closed_has_no_interval_where_the_gap_is_not_sure(rng: np.random.Generator) -> None:
    share = stats.gap_closed([5.0, 5.0], [10.0, 6.0], [4.0, 9.0], rng)
    assert share.value == pytest.approx(2.0) and np.isnan(share.low)


def test_regret_is_the_share_above_the_bound(rng: np.random.Generator) -> None:
    above = stats.regret([12.0, 24.0], [10.0, 20.0], rng)
    assert (above.value, above.low, above.high) == pytest.approx((0.2, 0.2, 0.2))


def test_kendall_tau_by_hand_and_by_scipy(rng: np.random.Generator) -> None:
    assert stats.kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    left, right = rng.integers(0, 5, 30), rng.integers(0, 5, 30)
    assert stats.kendall_tau(left, right) == pytest.approx(scipy.stats.kendalltau(left, right)[0])
    assert np.isnan(stats.kendall_tau([1, 1], [1, 2]))


ATTAINED = [0.80, 0.90, 0.90, 0.95, 0.85, 0.99]
DOLLARS = [10.0, 14.0, 20.0, 22.0, 30.0, 40.0]


def test_hull_leaves_out_what_is_dominated_or_dearer_than_a_mixture() -> None:
    x, y = stats.lower_hull([*ATTAINED, 0.92], [*DOLLARS, 19.0])  # 0.92: line gives 17.2
    assert x == pytest.approx([0.80, 0.90, 0.95, 0.99])
    assert y == pytest.approx([10.0, 14.0, 22.0, 40.0])


def test_hull_never_falls(rng: np.random.Generator) -> None:
    for _ in range(50):
        x, y = stats.lower_hull(rng.random(12), rng.random(12))
        slopes = np.diff(y) / np.diff(x)
        assert np.all(np.diff(x) > 0) and np.all(slopes >= 0) and np.all(np.diff(slopes) >= -1e-12)


@pytest.mark.parametrize(
    ("target", "usd", "status"),
    [
        (0.80, 10.0, "matched"),
        (0.85, 12.0, "matched"),
        (0.97, 31.0, "matched"),
        (0.99, 40.0, "matched"),
        (0.70, 10.0, "exceeded"),
    ],
)
def test_dollars_at_matched_slo_are_interpolated(target: float, usd: float, status: str) -> None:
    assert stats.matched_slo(ATTAINED, DOLLARS, target) == (pytest.approx(usd), status)


def test_dollars_beyond_the_frontier_are_not_extrapolated() -> None:
    usd, status = stats.matched_slo(ATTAINED, DOLLARS, 0.995)
    assert np.isnan(usd) and status == "not reached"


def test_a_frontier_needs_five_points() -> None:
    with pytest.raises(SpecError, match="frontier points = 4"):
        stats.matched_slo(ATTAINED[:4], DOLLARS[:4], 0.9)


def test_matched_cost_weighs_attainment_by_requests(rng: np.random.Generator) -> None:
    attained = np.array([ATTAINED, [1.0] * 6])
    usd = np.array([DOLLARS, [0.0] * 6])
    cost = stats.matched_cost(attained, usd, 0.85, rng, requests=[1.0, 0.0])
    assert np.isnan(cost.usd.low), "half of the resamples hold no request"
    assert cost.status == "matched" and cost.usd.value == pytest.approx(12.0)


def test_matched_cost_has_an_interval(rng: np.random.Generator) -> None:
    scale = rng.normal(1.0, 0.1, (20, 1))
    cost = stats.matched_cost(np.tile(ATTAINED, (20, 1)), np.array(DOLLARS) * scale, 0.85, rng)
    assert cost.usd.low < cost.usd.value < cost.usd.high
    assert cost.usd.value == pytest.approx(12.0 * scale.sum())
