"""Nodes that come up and go off by order, against sequences worked out by hand.

Units: seconds, GiB, dollars.
"""

import math
from functools import partial
from typing import Any

import by_hand
import numpy as np
import pytest
from by_hand import starts

from stoker.envs.cluster.decision import Decision, legalize_nodes
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Objective

INF = math.inf
start = partial(by_hand.start, until_s=100.0)
COLD, DROPPED, HOST = 1, 2, 3


def model(name: str, **changes: Any) -> Function:
    """4 GiB; from disk 1 s of runtime and whatever the node's disk takes."""
    return Function(name, 4.0, 4.0, runtime_s=1.0, **changes)


def pair(*functions: Function, boot_s: float = 0.0, gib: float = 4.0, **changes: Any) -> Cluster:
    """Two nodes of one GPU each, 3.6 dollars an hour: a thousandth of a dollar a second."""
    gpu = Gpu(gib, price_usd_h=3.6, idle_w=50.0, busy_w=300.0)
    return Cluster((Node((gpu,), boot_s=boot_s),) * 2, functions, **changes)


def want(sim: Simulation, *nodes: float, **orders: Any) -> None:
    n = sim.state.fn.shape[1]
    given = {k: np.broadcast_to(np.asarray(v), (1, n)) for k, v in orders.items()}
    sim.apply(Decision(nodes_wanted=np.array([nodes]), **given))


def up(sim: Simulation) -> list[int]:
    return list(sim.snapshot().nodes_up[0].tolist())


def test_a_node_drains_what_works_finishes_and_then_it_is_off() -> None:
    # first fit: a on node 0, b on node 1, each ready at 1 and working until 11. At 5 one node is
    # wanted: node 1 is off when b is done, at 11. b's next call at 20 takes a's place on node 0.
    a, b = model("a", alpha_s=10.0), model("b", alpha_s=10.0)
    sim = start(pair(a, b), [(0.0, 0), (0.0, 1), (20.0, 1)], placement="first_fit")
    sim.run(5.0)
    want(sim, 1)
    assert up(sim) == [1] and sim.snapshot().free_gib[0].tolist() == [0.0, 0.0]
    sim.run(10.5)
    assert sim.state.node[0]["state"].tolist() == [0, 1]
    sim.run(12.0)
    assert sim.state.node[0]["state"].tolist() == [0, 2]
    assert starts(sim) == [1.0, 1.0, 21.0]
    bill, counters = sim.result().bill, sim.result().counters
    assert counters["evictions"] == 1 and counters["expiries"] == 1 and counters["clipped"] == 0
    assert bill.node_s == pytest.approx(100.0 + 11.0)
    assert bill.gpu_off_s == pytest.approx(100.0 - 11.0)


def test_what_is_idle_leaves_at_once_and_to_nowhere() -> None:
    # a idles on node 1 (the larger GPU) from 3 on; host memory would take it, were the node up.
    nodes = (Node((Gpu(4.0),), 8.0), Node((Gpu(5.0),), 8.0))
    sim = start(Cluster(nodes, (model("a", alpha_s=2.0),)), [(0.0, 0), (50.0, 0)])
    want(sim, 2, host_keep_alive_s=INF)
    sim.run(10.0)
    want(sim, 1)
    assert sim.state.fn[0]["n"].tolist() == [0] and sim.snapshot().on_host.tolist() == [[0]]
    assert sim.state.node[0]["state"].tolist() == [0, 2]
    assert starts(sim) == [1.0, 51.0]
    assert sim.result().outcome.tier.tolist() == [COLD, COLD]


def test_host_copies_are_lost_with_their_node() -> None:
    nodes = (Node((Gpu(4.0),)), Node((Gpu(4.0),), host_gib=8.0))
    sim = start(Cluster(nodes, (model("a"),)), [(50.0, 0)], placement="first_fit")
    want(sim, 2, prewarm_host=1, host_keep_alive_s=INF)
    sim.run(5.0)
    assert sim.snapshot().on_host.tolist() == [[1]]
    want(sim, 1)
    assert sim.snapshot().on_host.tolist() == [[0]]
    want(sim, 2)
    assert starts(sim) == [51.0]
    assert sim.result().outcome.tier.tolist() == [COLD]


def test_a_load_under_way_ends_and_its_instance_leaves() -> None:
    # c is larger than node 0; its load on node 1 began at 0. Drained at 0.5, it leaves at 1 without
    # a batch; the request waits until both nodes are wanted again at 10, with 2 s to boot.
    small, large = Gpu(4.0), Gpu(9.0)
    nodes = (Node((small,), boot_s=2.0), Node((large,), boot_s=2.0))
    cluster = Cluster(nodes, (Function("c", 8.0, 8.0, runtime_s=1.0),))
    sim = start(cluster, [(0.0, 0)])
    sim.run(0.5)
    want(sim, 1)
    sim.run(0.9)
    assert sim.state.fn[0]["n"].tolist() == [1]
    sim.run(10.0)
    assert sim.state.fn[0]["n"].tolist() == [0] and up(sim) == [1]
    want(sim, 2)
    assert up(sim) == [1]
    sim.run(11.9)
    assert up(sim) == [1]
    assert starts(sim) == [13.0] and up(sim) == [2]
    assert sim.result().bill.node_s == pytest.approx(100.0 + 1.0 + 90.0)


def test_an_instance_that_drains_takes_nothing_from_the_queue() -> None:
    # One GPU a node, a on node 0 and 1. Both work until 11; two more calls wait from 4 on. Node 1
    # is not wanted at 5: at 11 only node 0 goes on, first with one, at 21 with the other.
    a = model("a", alpha_s=10.0)
    sim = start(pair(a), [(0.0, 0), (0.0, 0), (4.0, 0), (4.0, 0)])
    sim.run(5.0)
    want(sim, 1)
    assert starts(sim) == [1.0, 1.0, 11.0, 21.0]


def test_a_replacement_starts_for_what_waits_when_a_node_drains() -> None:
    # a's batch on node 1 ends at 11 and its second request queues behind it; b leaves node 0 at 3.
    nodes = (Node((Gpu(4.0),)), Node((Gpu(5.0),)))
    a = model("a", alpha_s=10.0)
    sim = start(Cluster(nodes, (a,)), [(0.0, 0), (2.0, 0)])
    want(sim, 2, max_instances=1)
    sim.run(3.0)
    want(sim, 1)
    assert starts(sim) == [1.0, 4.0]


def test_a_node_that_is_wanted_again_while_it_drains_is_up_at_once() -> None:
    a = model("a", alpha_s=10.0)
    sim = start(pair(a, boot_s=30.0), [(0.0, 0), (0.0, 0), (12.0, 0), (12.0, 0)])
    sim.run(5.0)
    want(sim, 1)
    sim.run(6.0)
    want(sim, 2)
    assert up(sim) == [2]
    assert starts(sim) == [1.0, 1.0, 12.0, 12.0]
    assert sim.result().bill.node_s == pytest.approx(200.0)


def test_a_boot_that_is_called_off_does_not_end() -> None:
    sim = start(pair(model("a"), boot_s=5.0), [])
    want(sim, 0)
    sim.run(10.0)
    want(sim, 1)
    sim.run(12.0)
    want(sim, 0)
    sim.run(13.0)
    want(sim, 1)
    sim.run(17.9)  # the boot called off would have ended at 15
    assert up(sim) == [0]
    sim.run(18.1)
    assert up(sim) == [1]
    sim.run(20.0)
    assert sim.result().bill.node_s == pytest.approx(2.0 + 7.0)


@pytest.mark.parametrize(("billing", "rent"), [("memory", 0.011), ("gpu", 0.011), ("node", 0.041)])
def test_who_pays_for_a_node_that_is_up(billing: str, rent: float) -> None:
    # a on node 0 from 0 to 11 (keep-alive 0). Both nodes up to 10, then node 0 alone to 31:
    # 10 + 31 node-seconds at a thousandth of a dollar.
    cluster = pair(model("a", alpha_s=10.0), objective=Objective(billing=billing))
    sim = start(cluster, [(0.0, 0)], until_s=31.0, placement="first_fit")
    want(sim, 2, keep_alive_s=0.0)
    sim.run(10.0)
    want(sim, 1)
    sim.run()
    bill = sim.result().bill
    assert bill.rent_usd == pytest.approx(rent)
    assert bill.node_s == pytest.approx(41.0)
    assert bill.energy_j == pytest.approx(1.0 * 50.0 + 10.0 * 300.0)


def test_each_class_of_nodes_has_its_own_number() -> None:
    kinds = [("x", "y"), ("y",), ("x",), ("y",)]
    nodes = tuple(Node(tuple(Gpu(4.0, kind=k) for k in gpus)) for gpus in kinds)
    sim = start(Cluster(nodes, (model("a"),)), [])
    assert up(sim) == [2, 2]
    want(sim, 1, 2)  # a node is of the class of its first GPU
    assert up(sim) == [1, 2] and sim.state.node[0]["state"].tolist() == [0, 0, 2, 0]
    want(sim, 2, 1)
    assert sim.state.node[0]["state"].tolist() == [0, 0, 0, 2]


def test_a_busy_exclusive_gpu_serves_the_turn_that_was_claimed() -> None:
    # a works until 11, b has claimed the next turn; the order at 5 lets both have theirs, not more.
    a, b = model("a", alpha_s=10.0), model("b", alpha_s=10.0)
    gpu = Gpu(8.0, sharing="exclusive")
    calls = [(0.0, 0), (0.0, 1), (12.0, 0)]
    sim = start(Cluster((Node((gpu,)),), (a, b)), calls)
    sim.run(5.0)
    want(sim, 0)
    assert starts(sim)[:2] == [1.0, 11.0] and math.isnan(starts(sim)[2])
    assert sim.result().bill.node_s == pytest.approx(21.0)


def test_requests_without_a_node_wait_or_are_refused_as_the_rule_says() -> None:
    for overload, tiers in (("queue", [255]), ("drop", [DROPPED])):
        sim = start(pair(model("a")), [(1.0, 0)], overload=overload)
        want(sim, 0)
        sim.run()
        assert sim.result().outcome.tier.tolist() == tiers
    sim = start(pair(model("a")), [(1.0, 0)], overload="drop", scale_out="per_request")
    want(sim, 0)
    sim.run()
    assert sim.result().outcome.tier.tolist() == [DROPPED]


def test_wait_vs_cold_does_not_wait_for_a_slot_that_drains() -> None:
    # Node 1's instance is free at 11, a new one on node 0 would be ready at 4 + 1.
    nodes = (Node((Gpu(4.0),), disk=Link(1e9)), Node((Gpu(5.0),), disk=Link(1e9)))
    sim = start(
        Cluster(nodes, (model("a", alpha_s=10.0),)), [(0.0, 0), (10.5, 0)], scale_out="wait_vs_cold"
    )
    sim.run(5.0)
    want(sim, 1)
    assert starts(sim) == pytest.approx([1.0, 11.5])


def test_lazy_expiry_does_not_keep_a_node_from_going_off() -> None:
    rules: dict[str, Any] = {
        "ttl_expiry": "lazy", "scale_out": "per_request", "overload": "drop",
    }  # fmt: skip
    sim = start(pair(model("a", alpha_s=10.0)), [(0.0, 0)], **rules)
    sim.run(5.0)
    want(sim, 0)
    sim.run(12.0)
    assert sim.state.node[0]["state"].tolist() == [2, 2]


def test_orders_out_of_range_are_clipped_and_counted() -> None:
    sim = start(pair(model("a")), [])
    want(sim, 7)
    assert up(sim) == [2] and sim.result().counters["clipped"] == 1
    want(sim, -3)
    assert up(sim) == [0] and sim.result().counters["clipped"] == 2
    want(sim, math.nan)
    assert up(sim) == [2] and sim.result().counters["clipped"] == 3
    with pytest.raises(SpecError, match=r"nodes_wanted = \(1, 2\).*expected shape \(1, 1\)"):
        want(sim, 1, 1)
    with pytest.raises(SpecError, match=r"node.boot_s = inf"):
        Node((Gpu(1.0),), boot_s=INF)
    with pytest.raises(SpecError, match=r"objective.billing = 'free'.*memory \| gpu \| node"):
        Objective(billing="free")


def test_a_backend_that_cannot_counts_what_it_was_asked() -> None:
    present = np.array([[2, 1]], np.int32)
    legal, clipped = legalize_nodes(np.array([[1, 1]]), present, possible=False)
    assert legal is None and clipped.tolist() == [1]
    live = LiveEngine(pair(model("a")))
    assert not live.capabilities.targets and not live.capabilities.capacity
    live.apply(Decision(nodes_wanted=np.array([[0]])))
    assert live.snapshot().nodes_up.tolist() == [[2]]
    assert live.result(1.0).counters["clipped"] == 1
