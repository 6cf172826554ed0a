"""Where functions over several GPUs go and what leaves for them, worked out by hand.

Units: seconds, GiB.
"""

from typing import Any

import numpy as np
import pytest
from by_hand import order, start, starts
from table_checks import check_row
from test_spans import COLD, DROPPED, GIB, ONE, OTHER, WARM, model, used

from stoker.envs.cluster.spec import Cluster, Gpu, Link, Node, Service


@pytest.mark.parametrize("eviction", ["lru", "greedy_dual", "landlord", "score", "hazard"])
def test_a_small_function_that_needs_one_of_its_gpus_takes_the_whole_instance(
    eviction: str,
) -> None:
    # a fills both GPUs; b needs 2 GiB on one of them.
    cluster = Cluster(Node((ONE,) * 2, pcie=Link(2.0)), (model("a", 16.0, 2), model("b", 2.0)))
    sim = start(cluster, [(0.0, 0), (10.0, 1), (20.0, 0)], eviction=eviction)
    sim.run(9.0)
    assert used(sim) == [8.0, 8.0]
    assert sim.state.gpu[0]["evictable"].tolist() == [8 * GIB] * 2
    sim.run(15.0)
    check_row(sim, 0)
    assert used(sim) == [2.0, 0.0]
    assert sim.state.rows[0]["evictions"] == 1
    # b makes room in its turn: 16 / 2 over PCIe at 2 = 4 s again.
    assert starts(sim) == pytest.approx([4.0, 11.0, 24.0])
    assert used(sim) == [8.0, 8.0]


def held_gpus(**changes: Any) -> Cluster:
    """b and c, 6 GiB each, stand on a GPU each; a needs all of both."""
    functions = (model("a", 16.0, 2), model("b", 6.0), model("c", 6.0, alpha_s=50.0))
    return Cluster(Node((ONE,) * 2, pcie=Link(2.0)), functions, **changes)


def test_room_is_made_on_all_gpus_or_on_none() -> None:
    # b idle from 3, c busy from 4 to 54: a waits until then, and b stays as long.
    sim = start(held_gpus(), [(0.0, 1), (1.0, 2), (10.0, 0)])
    sim.run(53.0)
    check_row(sim, 0)
    assert used(sim) == [6.0, 6.0]
    assert sim.state.rows[0]["evictions"] == 0
    assert starts(sim) == pytest.approx([3.0, 4.0, 58.0])  # 16 / 2 at 2 = 4 s
    assert sim.state.rows[0]["evictions"] == 2


@pytest.mark.parametrize("futile", ["never", "allowed"])
def test_a_span_that_is_refused_evicts_nobody(futile: str) -> None:
    sim = start(
        held_gpus(), [(0.0, 1), (1.0, 2), (10.0, 0)], overload="drop", futile_eviction=futile
    )
    sim.run()
    assert sim.result().outcome.tier.tolist() == [COLD, COLD, DROPPED]
    assert sim.state.rows[0]["evictions"] == 0
    assert used(sim) == [6.0, 6.0]


def test_it_goes_where_there_are_enough_gpus_of_one_class() -> None:
    # Node 0 has the most memory, but one GPU of each class; node 1 a single one; node 2 two.
    nodes = (Node((Gpu(80.0), Gpu(80.0, kind="other"))), Node((ONE,)), Node((ONE, OTHER, OTHER)))
    cluster = Cluster(nodes, (model("a", 8.0, 2, services=(Service("other", 3.0),)),))
    sim = start(cluster, [(0.0, 0)])
    assert starts(sim) == [0.0]
    assert used(sim) == [0.0, 0.0, 0.0, 0.0, 4.0, 4.0]
    assert sim.result().outcome.finish_s.tolist() == [3.0]  # service times of that class
    # An order for the other class cannot be carried out: no node has two of it.
    order(start(cluster, []), gpu_class=1)
    sim = start(cluster, [(0.0, 0)])
    order(sim, gpu_class=0)
    assert sim.state.rows[0]["clipped"] == 1
    starts(sim)
    assert used(sim)[4:] == [4.0, 4.0]


@pytest.mark.parametrize(
    ("placement", "at"),
    # Free GiB 8, 8 | 6, 16: worst fit wants the largest sum, 22; best fit and first fit 16.
    [("most_free", [2, 3]), ("best_fit", [0, 1]), ("first_fit", [0, 1]), ("shared_bytes", [0, 1])],
)
def test_placement_adds_up_over_the_gpus(placement: str, at: list[int]) -> None:
    cluster = Cluster((Node((ONE,) * 2), Node((Gpu(6.0), Gpu(16.0)))), (model("a", 8.0, 2),))
    sim = start(cluster, [(0.0, 0)], placement=placement)
    starts(sim)
    assert np.flatnonzero(sim.state.gpu[0]["used"]).tolist() == at


def test_soonest_goes_to_the_faster_node() -> None:
    slow, fast = (Node((ONE,) * 2, disk=Link(rate)) for rate in (1.0, 4.0))
    sim = start(Cluster((slow, fast), (model("a", 8.0, 2),)), [(0.0, 0)], placement="soonest")
    assert starts(sim) == [2.0]
    assert used(sim) == [0.0, 0.0, 4.0, 4.0]


def test_free_gpus_come_first_then_those_of_which_fewest_are_cleared() -> None:
    # b and c fill GPUs 0 and 1; d half of GPU 2. a (8 on each of 2) fits free on none: node 0 would
    # lose two, node 1 one.
    functions = (model("a", 16.0, 2), model("b", 8.0), model("c", 8.0), model("d", 4.0))
    cluster = Cluster((Node((ONE,) * 2), Node((Gpu(10.0),) * 2)), functions)
    sim = start(cluster, [(0.0, 1), (1.0, 2), (2.0, 3), (9.0, 0)], placement="best_fit")
    starts(sim)
    assert used(sim) == [8.0, 8.0, 8.0, 8.0]
    assert sim.state.rows[0]["evictions"] == 1


def test_prewarm_holds_all_gpus_and_is_refused_without_them() -> None:
    cluster = Cluster(Node((ONE,) * 3, pcie=Link(1.0)), (model("a", 16.0, 2), model("b", 8.0)))
    sim = start(cluster, [(30.0, 0)])
    order(sim, prewarm=[2, 1])
    sim.run(20.0)
    check_row(sim, 0)
    assert used(sim) == [8.0, 8.0, 8.0]
    assert sim.state.rows[0]["refused"] == 1  # the second of a
    assert starts(sim) == [30.0]
    assert sim.result().outcome.tier.tolist() == [WARM]
