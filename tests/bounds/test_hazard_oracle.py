import numpy as np
import pytest

from stoker.baselines.bounds.hazard_oracle import BINS, bin_of, gap_bins, index_of, loo_histograms
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.workload import Workload


def test_five_bins_double_an_age_and_the_last_is_open() -> None:
    edges = gap_bins(3.0)
    assert len(edges) == BINS + 1
    np.testing.assert_allclose(edges[:2], [0.0, 3.0])
    np.testing.assert_allclose(edges[1:72:5], 3.0 * 2.0 ** np.arange(15))
    np.testing.assert_allclose(edges[2:] / edges[1:-1], 2.0**0.2)
    np.testing.assert_array_equal(
        bin_of(np.array([0.0, 2.99, 3.0, 3.46, 1e9]), 3.0), [0, 0, 1, 2, 71]
    )


def test_a_certain_gap_has_the_index_of_its_bin_middle() -> None:
    pmf = np.zeros(BINS)
    pmf[10] = 4.0
    edges = gap_bins(3.0)
    middle = 0.5 * (edges[10] + edges[11])
    index = index_of(pmf, 3.0)
    np.testing.assert_allclose(index[:11], 1.0 / (middle - edges[:11]))
    np.testing.assert_array_equal(index[11:], 0.0)


def test_two_bins_by_hand() -> None:
    pmf = np.zeros(BINS)
    pmf[0], pmf[71] = 0.25, 0.75
    edges = gap_bins(2.0)
    soon = 0.25 / (0.25 * 1.0 + 0.75 * 2.0)
    whole = 1.0 / (0.25 * 1.0 + 0.75 * 0.5 * (edges[71] + edges[72]))
    assert index_of(pmf, 2.0, np.array([0]))[0] == pytest.approx(max(soon, whole))


def test_it_equals_sampling() -> None:
    rng = np.random.default_rng(0)
    pmf = rng.dirichlet(np.full(BINS, 0.3))
    edges = gap_bins(1.0)
    at = rng.choice(BINS, 400_000, p=pmf)
    gaps = rng.uniform(edges[at], edges[at + 1])
    for age in (0, 20, 50):
        left = gaps[gaps > edges[age]] - edges[age]
        taus = edges[age + 1 :] - edges[age]
        sampled = max((left <= tau).mean() / np.minimum(left, tau).mean() for tau in taus)
        assert index_of(pmf, 1.0, np.array([age]))[0] == pytest.approx(sampled, rel=0.02)


def test_one_gap_is_left_out() -> None:
    cluster = Cluster(Node((Gpu(10.0),)), (Function("a", 1.0, 1.0), Function("b", 1.0, 1.0)))
    workload = Workload(
        np.array([0.0, 1.0, 10.0, 20.0]), np.array([0, 1, 0, 0], np.int32), ("a", "b"), 30.0
    )
    gaps = loo_histograms(workload, cluster)
    ten = bin_of(np.array([10.0]), cluster.first_bin_s)[0]
    assert gaps.counts.shape == (2, BINS)
    assert gaps.counts[0, ten] == 2
    assert gaps.counts.sum() == 2
    assert gaps.without(0)[ten] == 1
    np.testing.assert_array_equal(gaps.start_s, [0.0, 10.0])
