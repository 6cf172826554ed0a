import numpy as np
import pytest

from stoker.baselines.bounds.intervals import find_intervals, function_costs, pending_seconds
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.workload import Workload


def intervals_of(arrivals: list[float], services: list[float], *, concurrency: int = 1):
    cluster = Cluster(Node((Gpu(10.0),)), (Function("a", 1.0, 1.0, concurrency=concurrency),))
    workload = Workload(
        np.array(arrivals),
        np.zeros(len(arrivals), np.int32),
        ("a",),
        100.0,
        service_s=np.array(services),
    )
    costs = function_costs(cluster)
    return find_intervals(workload, costs), costs


def test_gaps_lie_between_busy_spells() -> None:
    found, _ = intervals_of([1.0, 5.0, 9.0], [2.0, 1.0, 1.0])
    np.testing.assert_array_equal(found.first, [True, False, False])
    np.testing.assert_array_equal(found.start_s, [0.0, 3.0, 6.0])
    np.testing.assert_array_equal(found.end_s, [1.0, 5.0, 9.0])
    np.testing.assert_array_equal(found.busy_end_s, [3.0, 6.0, 10.0])


def test_an_overlapping_request_opens_a_second_level_with_one_slot() -> None:
    found, _ = intervals_of([1.0, 2.0, 5.0], [3.0, 0.5, 1.0])
    np.testing.assert_array_equal(found.level, [0, 1, 0])
    np.testing.assert_array_equal(found.request_s, [3.0, 0.5, 1.0])


def test_an_overlapping_request_shares_the_instance_with_two_slots() -> None:
    found, _ = intervals_of([1.0, 2.0, 5.0], [3.0, 0.5, 1.0], concurrency=2)
    np.testing.assert_array_equal(found.level, [0, 0])
    np.testing.assert_array_equal(found.request_s, [3.5, 1.0])


def test_a_request_that_arrives_as_another_ends_leaves_no_gap() -> None:
    found, _ = intervals_of([1.0, 3.0], [2.0, 1.0])
    assert np.all(found.level == 0)
    assert (found.end_s - found.start_s)[1:].sum() == 0.0


def test_request_seconds_of_all_levels_add_up_to_the_service_times() -> None:
    rng = np.random.default_rng(0)
    arrivals, services = np.sort(rng.uniform(0.0, 50.0, 200)), rng.exponential(2.0, 200)
    for slots in (1, 3):
        found, _ = intervals_of(list(arrivals), list(services), concurrency=slots)
        total = np.minimum(arrivals + services, 100.0) - arrivals
        assert found.request_s.sum() == pytest.approx(total.sum())


def test_pending_seconds_count_at_most_the_slots() -> None:
    found, costs = intervals_of([1.0, 2.0, 3.0], [5.0, 5.0, 5.0], concurrency=2)
    delay_s = np.full(len(found), 4.0)
    assert pending_seconds(found, delay_s, costs.slots)[0] == 4.0 + 3.0
    assert pending_seconds(found, delay_s, costs.slots + 1)[0] == 4.0 + 3.0 + 2.0
    assert pending_seconds(found, 0.0 * delay_s, costs.slots)[0] == 0.0
