"""Start-up paths over shared links and the host tier, against times worked out by hand.

Units: seconds, GiB, GiB/s.
"""

import math
from typing import Any

import by_hand
import numpy as np
import pytest
from by_hand import model, order, starts

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node

INF = math.inf
COLD, HOST = 1, 3


def start(
    node: Node, functions: list[Function], calls: list[tuple[float, int]], **orders: Any
) -> Simulation:
    """A simulation under standing orders given a value each, for all functions alike or each."""
    sim = by_hand.start(Cluster(node, tuple(functions)), calls)
    order(sim, **orders)
    return sim


def gpus(n: int = 1, gib: float = 40.0) -> tuple[Gpu, ...]:
    return (Gpu(gib),) * n


def test_a_start_up_is_the_sum_of_its_phases() -> None:
    # 0.5 runtime + 4/2 disk + 4/8 PCIe + 0.25 warm-up = 3.25.
    node = Node(gpus(), disk=Link(2.0), pcie=Link(8.0))
    one = model("a", runtime_s=0.5, warmup_s=0.25)
    assert starts(start(node, [one], [(1.0, 0)])) == pytest.approx([4.25])
    assert Cluster(node, (one,)).load_s(0, "disk") == 3.25
    assert Cluster(node, (one,)).load_s(0, "host") == 1.25


@pytest.mark.parametrize("discipline", ["fair", "fifo"])
def test_a_lone_load_runs_at_the_lower_of_its_ceiling_and_the_link(discipline: str) -> None:
    node = Node(gpus(), disk=Link(2.0, discipline))
    assert starts(start(node, [model("a", load_gib_s=0.5)], [(0.0, 0)])) == pytest.approx([8.0])
    assert starts(start(node, [model("a", load_gib_s=50.0)], [(0.0, 0)])) == pytest.approx([2.0])


def test_two_loads_share_a_fair_link_equally() -> None:
    node = Node(gpus(), disk=Link(2.0))
    sim = start(node, [model("a"), model("b")], [(0.0, 0), (0.0, 1)])
    assert starts(sim) == pytest.approx([4.0, 4.0])
    # b joins at 1: a has 2 GiB left and half the link: 3; b then has 2 GiB left and all of it: 4.
    sim = start(node, [model("a"), model("b")], [(0.0, 0), (1.0, 1)])
    assert starts(sim) == pytest.approx([3.0, 4.0])


def test_a_load_under_its_own_ceiling_does_not_speed_up_when_the_other_leaves() -> None:
    # Shares of 1: a runs at its ceiling of 0.5 (8 s), b at 1 (4 s).
    node = Node(gpus(), disk=Link(2.0))
    functions = [model("a", load_gib_s=0.5), model("b")]
    assert starts(start(node, functions, [(0.0, 0), (0.0, 1)])) == pytest.approx([8.0, 4.0])


def test_a_fifo_link_serves_as_many_as_it_has_slots_each_at_the_full_rate() -> None:
    three, calls = [model("a"), model("b"), model("c")], [(0.0, 0), (0.1, 1), (0.2, 2)]
    node = Node(gpus(), disk=Link(2.0, "fifo", 1))
    assert starts(start(node, three, calls)) == pytest.approx([2.0, 4.0, 6.0])
    node = Node(gpus(), disk=Link(2.0, "fifo", 2))
    assert starts(start(node, three, calls)) == pytest.approx([2.0, 2.1, 4.0])


def test_gpus_share_the_disk_and_have_a_pcie_link_each() -> None:
    # most_free places b on the other GPU: disk 4/2 each in turn, then PCIe 4/1 side by side.
    node = Node(gpus(2), disk=Link(2.0, "fifo", 1), pcie=Link(1.0))
    two = [model("a"), model("b")]
    assert starts(start(node, two, [(0.0, 0), (0.0, 1)])) == pytest.approx([6.0, 8.0])
    # On one GPU they share its PCIe link: a moves 2 GiB alone (2-4), 2 GiB at half rate until 8,
    # b then has 2 GiB left: 10.
    node = Node(gpus(1), disk=Link(2.0, "fifo", 1), pcie=Link(1.0))
    assert starts(start(node, two, [(0.0, 0), (0.0, 1)])) == pytest.approx([8.0, 10.0])


def test_a_fair_link_also_finishes_its_loads_late_in_a_long_trace() -> None:
    # At 1e6 s the clock resolves 1e-10 s, in which this link moves more than a byte.
    rng = np.random.default_rng(3)
    node = Node(gpus(), disk=Link(23.7), pcie=Link(31.3))
    three = [model("a", 3.3, runtime_s=0.1), model("b", 5.1, runtime_s=0.2), model("c", 7.7)]
    at = np.sort(9e5 + rng.random(200) * 9e4)
    sim = start(node, three, [(float(t), k % 3) for k, t in enumerate(at)], keep_alive_s=0.0)
    waits = np.array(starts(sim)) - at
    alone = np.array([sim.clusters[0].load_s(f) for f in range(3)])
    assert np.all(waits >= alone[np.arange(200) % 3] - 1e-6)
    assert np.median(waits - alone[np.arange(200) % 3]) < 1e-6
    assert np.all(waits < 10.0)


def host_node(host_gib: float = 100.0) -> Node:
    return Node(gpus(), host_gib=host_gib, disk=Link(2.0, "fifo"), pcie=Link(8.0, "fifo"))


def test_an_instance_that_expires_leaves_its_weights_on_the_host_and_loads_from_there() -> None:
    # Ready at 2.5, served at once; gone to the host at 3.5; 10.0 + 4/8 from the host; consumed.
    sim = start(
        host_node(), [model("a")], [(0.0, 0), (10.0, 0)], keep_alive_s=1.0, host_keep_alive_s=INF
    )
    sim.run(3.4)
    assert sim.snapshot().on_host.tolist() == [[0]]
    sim.run(3.6)
    assert sim.snapshot().on_host.tolist() == [[1]]
    sim.run(10.6)
    assert sim.snapshot().on_host.tolist() == [[0]]
    outcome = sim.result().outcome
    assert outcome.tier.tolist() == [COLD, HOST]
    assert outcome.start_s == pytest.approx([2.5, 10.5])
    assert sim.result().counters["loads_host"] == 1
    assert sim.result().bill.host_gib_s == pytest.approx(4.0 * (10.5 - 3.5))


def test_a_host_copy_goes_when_its_keep_alive_ends() -> None:
    sim = start(
        host_node(), [model("a")], [(0.0, 0), (10.0, 0)], keep_alive_s=1.0, host_keep_alive_s=5.0
    )
    sim.run(9.0)
    assert sim.result().bill.host_gib_s == pytest.approx(4.0 * 5.0)  # from 3.5 to 8.5
    sim.run(20.0)
    assert sim.result().outcome.tier.tolist() == [COLD, COLD]


def test_a_host_keep_alive_that_is_lowered_or_raised_counts_for_copies_that_lie_there() -> None:
    for first, then, held in ((INF, 2.0, 4.0), (3.0, 30.0, 30.0), (50.0, 0.0, 4.0)):
        sim = start(
            host_node(), [model("a")], [(0.0, 0)], keep_alive_s=1.0, host_keep_alive_s=first
        )
        sim.run(3.5 + min(first, 4.0))  # at 3.5 it went to the host
        sim.run(7.5 if first > 3.0 else 6.0)
        sim.apply(Decision(host_keep_alive_s=np.array([[then]])))
        sim.run(1000.0)
        assert sim.result().bill.host_gib_s == pytest.approx(4.0 * held), (first, then)


def test_a_full_host_loses_its_oldest_copy() -> None:
    # 8 GiB of host hold two copies of 4: a (from 3.5), b; c's arrival pushes a out.
    three = [model("a"), model("b"), model("c")]
    calls = [(0.0, 0), (10.0, 1), (20.0, 2)]
    sim = start(host_node(8.0), three, calls, keep_alive_s=1.0, host_keep_alive_s=INF)
    sim.run(20.0)
    assert sim.snapshot().on_host.tolist() == [[1, 1, 0]]
    sim.run(30.0)
    assert sim.snapshot().on_host.tolist() == [[0, 1, 1]]
    assert sim.snapshot().host_free_gib.tolist() == [0.0]


def test_weights_larger_than_the_host_do_not_stay_and_push_nothing_out() -> None:
    two = [model("a", 2.0), model("b", 6.0)]
    sim = start(host_node(4.0), two, [(0.0, 0), (10.0, 1)], keep_alive_s=1.0, host_keep_alive_s=INF)
    sim.run(50.0)
    assert sim.snapshot().on_host.tolist() == [[1, 0]]


def test_an_eviction_demotes_too() -> None:
    node = Node((Gpu(5.0),), host_gib=100.0, disk=Link(2.0), pcie=Link(8.0))
    two = [model("a"), model("b")]
    sim = start(node, two, [(0.0, 0), (10.0, 1), (20.0, 0)], host_keep_alive_s=INF)
    assert starts(sim) == pytest.approx([2.5, 12.5, 20.5])
    assert sim.result().outcome.tier.tolist() == [COLD, COLD, HOST]
    assert sim.result().counters["evictions"] == 2


def test_a_copy_fetched_ahead_takes_the_disk_link_and_then_loads_from_the_host() -> None:
    sim = start(host_node(), [model("a")], [(5.0, 0)], prewarm_host=1, host_keep_alive_s=INF)
    sim.run(1.9)
    assert sim.snapshot().on_host.tolist() == [[0]]
    assert sim.snapshot().host_free_gib.tolist() == [96.0]  # booked from the start
    sim.run(2.1)
    assert sim.snapshot().on_host.tolist() == [[1]]
    sim.run(5.6)
    assert sim.result().outcome.start_s == pytest.approx([5.5])
    assert sim.result().outcome.tier.tolist() == [HOST]


def test_the_keep_alive_of_a_fetched_copy_begins_when_it_is_complete() -> None:
    sim = start(host_node(), [model("a")], [], prewarm_host=1, host_keep_alive_s=0.5)
    sim.run(100.0)
    assert sim.result().bill.host_gib_s == pytest.approx(4.0 * (2.0 + 0.5))


def test_a_fetch_and_a_load_share_the_disk_link() -> None:
    node = Node(gpus(), host_gib=100.0, disk=Link(2.0))
    sim = start(
        node, [model("a"), model("b")], [(0.0, 1)], prewarm_host=np.array([[1, 0]]),
        host_keep_alive_s=INF,
    )  # fmt: skip
    assert starts(sim) == pytest.approx([4.0])


def test_prewarm_to_the_host_is_clipped_and_counted_where_there_is_no_room() -> None:
    sim = start(host_node(1.0), [model("a")], [(5.0, 0)], prewarm_host=1, host_keep_alive_s=INF)
    sim.run(20.0)
    assert sim.result().outcome.tier.tolist() == [COLD]
    assert sim.result().bill.host_gib_s == 0.0


def test_a_prewarmed_instance_is_the_youngest_in_recency_order() -> None:
    # a and b are used, a again loaded ahead at 30 after it expired; c then needs b's place.
    node = Node((Gpu(8.0),))
    three = [model("a", runtime_s=1.0), model("b", runtime_s=1.0), model("c", runtime_s=1.0)]
    sim = start(
        node, three, [(0.0, 0), (10.0, 1), (40.0, 2)], keep_alive_s=np.array([[5.0, INF, INF]])
    )
    sim.run(30.0)
    sim.apply(Decision(prewarm=np.array([[1, 0, 0]])))
    sim.run(50.0)
    assert sim.snapshot().idle.tolist() == [[1, 0, 1]]
