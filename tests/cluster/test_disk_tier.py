"""Disks of limited size behind a network to a store, against times worked out by hand.

Units: seconds, GiB, GiB/s.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
from by_hand import model, order, starts, workload

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import GIB, Cluster, Function, Gpu, Link, Node, Rules

INF = math.inf
WARM, COLD, HOST, REMOTE = 0, 1, 3, 6
ABSENT, THERE = 0, 1


def node(disk_gib: float = 8.0, **changes: Any) -> Node:
    """Network of 1, disk of 2, PCIe of 8 GiB/s."""
    standard: dict[str, Any] = {
        "gpus": (Gpu(40.0),), "disk": Link(2.0), "pcie": Link(8.0), "network": Link(1.0),
    }  # fmt: skip
    return Node(disk_gib=disk_gib, **{**standard, **changes})


def start(
    nodes: Node | tuple[Node, ...],
    functions: list[Function],
    calls: list[tuple[float, int]],
    rules: Rules | None = None,
    **orders: Any,
) -> Simulation:
    """A simulation under standing orders; nothing stays on a device unless they say so."""
    cluster = Cluster(nodes, tuple(functions))
    sim = Simulation([cluster], [workload(cluster, calls)], rules)
    order(sim, **{"keep_alive_s": 0.0, **orders})
    return sim


def tiers(sim: Simulation) -> list[int]:
    sim.run()
    return sim.result().outcome.tier.tolist()


def on_disk(sim: Simulation) -> list[int]:
    """State of every copy, node by node."""
    return sim.state.nf[0]["disk"].tolist()


def test_weights_come_over_the_network_once_and_then_from_disk() -> None:
    # 0.5 runtime + 4/1 network + 4/2 disk + 4/8 PCIe + 0.25 warm-up = 7.25, then 3.25.
    one = model("a", runtime_s=0.5, warmup_s=0.25)
    sim = start(node(), [one], [(0.0, 0), (20.0, 0)])
    assert starts(sim) == pytest.approx([7.25, 23.25])
    assert tiers(sim) == [REMOTE, COLD]
    assert node().load_s(one, "remote") == 7.25 and node().load_s(one, "disk") == 3.25
    result = sim.result()
    assert (result.counters["loads_remote"], result.counters["loads_disk"]) == (1, 1)
    assert result.bill.network_gib == pytest.approx(4.0)
    assert result.bill.loaded_gib == pytest.approx(8.0)
    assert result.summary()["cold_ratio"] == 1.0 and result.summary()["loads"] == 2.0


def test_an_unlimited_disk_has_everything_from_the_start() -> None:
    sim = start(node(INF), [model("a")], [(0.0, 0)])
    assert starts(sim) == pytest.approx([2.5])
    assert tiers(sim) == [COLD]
    assert sim.result().bill.network_gib == 0.0


def test_the_host_copy_lies_above_the_disk() -> None:
    # 6.5 over the network; gone to the host; 4/8 from there.
    sim = start(node(host_gib=8.0), [model("a")], [(0.0, 0), (20.0, 0)], host_keep_alive_s=INF)
    assert starts(sim) == pytest.approx([6.5, 20.5])
    assert tiers(sim) == [REMOTE, HOST]


def test_a_full_disk_loses_the_copy_that_was_used_longest_ago() -> None:
    # Two of 4 GiB fit. a is read again at 40, so c takes b's place (60), b a's (80), a c's (100).
    three = [model("a"), model("b"), model("c")]
    calls = [(0.0, 0), (20.0, 1), (40.0, 0), (60.0, 2), (80.0, 1), (100.0, 0), (120.0, 1)]
    sim = start(node(), three, calls)
    states = []
    for t, _ in calls:
        sim.run(t + 15.0)
        states.append(on_disk(sim))
    assert tiers(sim) == [REMOTE, REMOTE, COLD, REMOTE, REMOTE, REMOTE, COLD]
    assert states == [[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 1, 0]]
    assert sim.state.node[0, 0]["disk_peak"] == 8 * GIB


def test_a_copy_that_a_load_reads_stays_and_the_newcomer_is_streamed() -> None:
    # a: 4/1 + 4/0.5 + 4/8 = 12.5; from disk 8.5, until 28.5. Meanwhile b finds no room on the disk:
    # 4/1 + 4/8 = 4.5 each time it is streamed. Then a is loose: b takes its place.
    slow = node(4.0, disk=Link(0.5))
    calls = [(0.0, 0), (20.0, 0), (21.0, 1), (40.0, 1), (60.0, 1)]
    sim = start(slow, [model("a"), model("b")], calls)
    assert starts(sim) == pytest.approx([12.5, 28.5, 25.5, 52.5, 68.5])
    assert tiers(sim) == [REMOTE, COLD, REMOTE, REMOTE, COLD]
    assert on_disk(sim) == [ABSENT, THERE]
    assert sim.result().bill.load_usd == 0.0
    # start-up work: two of a as above, b streamed, b kept and b from disk
    assert sim.state.rows[0]["load_s"] == pytest.approx(12.5 + 8.5 + 4.5 + 12.5 + 8.5)


def test_weights_larger_than_the_disk_are_streamed_each_time_and_push_nothing_out() -> None:
    two = [model("a", 2.0), model("b", 4.0)]
    calls = [(0.0, 0), (10.0, 1), (20.0, 1), (30.0, 0)]
    sim = start(node(3.0), two, calls)
    assert node(3.0).load_s(two[1], "remote") == 4.5
    assert starts(sim) == pytest.approx([3.25, 14.5, 24.5, 31.25])
    assert tiers(sim) == [REMOTE, REMOTE, REMOTE, COLD]
    assert sim.result().bill.network_gib == pytest.approx(10.0)
    assert tiers(start(node(0.0), two, calls)) == [REMOTE] * 4


@pytest.mark.parametrize("discipline", ["fair", "fifo"])
def test_the_slowest_link_decides_a_pipelined_load_from_the_store(discipline: str) -> None:
    # Network and PCIe side by side, written to the disk behind: 4/1; then disk and PCIe: 4/2.
    def seconds(network: float) -> list[float]:
        made = node(loading="pipelined", network=Link(network, discipline))
        sim = start(made, [model("a")], [(0.0, 0), (20.0, 0)])
        assert made.load_s(model("a"), "remote") == pytest.approx(starts(sim)[0])
        return starts(sim)

    assert seconds(1.0) == pytest.approx([4.0, 22.0])
    assert seconds(16.0) == pytest.approx([0.5, 22.0])
    assert seconds(INF) == pytest.approx([0.5, 22.0])


def test_pipelined_loads_from_disk_and_store_share_the_pcie_link() -> None:
    # PCIe of 1 decides. Alone a takes 4. At 10 a (disk) and b of 2 GiB (store) get half each: b is
    # there at 14; a has 2 GiB left: 16.
    quick = node(disk=Link(10.0), network=Link(10.0), pcie=Link(1.0), loading="pipelined")
    sim = start(quick, [model("a"), model("b", 2.0)], [(0.0, 0), (10.0, 0), (10.0, 1)])
    assert starts(sim) == pytest.approx([4.0, 16.0, 14.0])
    assert tiers(sim) == [REMOTE, COLD, REMOTE]


def test_a_format_slows_reading_and_streaming_but_not_the_copy_to_the_disk() -> None:
    slow = model("a", load_gib_s=0.5)
    for disk_gib, loading, seconds in (
        (8.0, "sequential", 4.0 + 8.0 + 0.5), (0.0, "sequential", 8.5), (8.0, "pipelined", 8.0),
    ):  # fmt: skip
        made = node(disk_gib, loading=loading)
        assert made.load_s(slow, "remote") == pytest.approx(seconds)
        assert starts(start(made, [slow], [(0.0, 0)])) == pytest.approx([seconds])


def test_compressed_weights_take_less_of_network_and_disk() -> None:
    # 2 GiB on disk: 2/1 + 4/(2 x 2) + 4/8 = 3.5.
    small = model("a", compression=2.0)
    sim = start(node(2.0), [small], [(0.0, 0), (20.0, 0)])
    assert node(2.0).load_s(small, "remote") == 3.5
    assert starts(sim) == pytest.approx([3.5, 21.5])
    assert tiers(sim) == [REMOTE, COLD]
    assert sim.result().bill.network_gib == pytest.approx(2.0)


def test_the_whole_file_comes_even_where_the_family_leaves_little_to_load() -> None:
    # a is resident; of b 1 GiB is missing. Its file of 4 GiB is fetched, 1 GiB read and copied:
    # 4 + 1/2 + 1/8. Streamed, 1 GiB comes: 1 + 1/8.
    kin = [model(n, family="kin", shared_gib=3.0) for n in ("a", "b")]
    for disk_gib, seconds in ((8.0, 4.625), (0.0, 1.125)):
        sim = start(node(disk_gib), kin, [(0.0, 0), (20.0, 1)], keep_alive_s=INF)
        assert starts(sim)[1] - 20.0 == pytest.approx(seconds)
        first = node(disk_gib).load_s(kin[0], "remote")
        assert sim.state.rows[0]["load_s"] == pytest.approx(first + seconds)


def test_two_loads_share_the_network_then_the_disk() -> None:
    # On one node 4 GiB each at 0.5: 8, disk at 1 each: 12, PCIe links of their own: 12.5. On two
    # nodes nothing is shared.
    two, calls = [model("a"), model("b")], [(0.0, 0), (0.0, 1)]
    assert starts(start(node(gpus=(Gpu(4.0),) * 2), two, calls)) == pytest.approx([12.5, 12.5])
    each = node(gpus=(Gpu(4.0),))
    assert starts(start((each, each), two, calls)) == pytest.approx([6.5, 6.5])
    fifo = node(gpus=(Gpu(4.0),) * 2, network=Link(1.0, "fifo"))
    assert starts(start(fifo, two, calls)) == pytest.approx([6.5, 10.5])


def test_every_node_has_a_disk_of_its_own() -> None:
    one, two = node(gpus=(Gpu(8.0, kind="x"),)), node(gpus=(Gpu(8.0, kind="y"),))
    sim = start((one, two), [model("a")], [(0.0, 0), (20.0, 0), (40.0, 0)], gpu_class=0)
    sim.run(10.0)
    order(sim, gpu_class=1)
    assert on_disk(sim) == [THERE, ABSENT]
    assert tiers(sim) == [REMOTE, REMOTE, COLD]
    assert on_disk(sim) == [THERE, THERE]


def test_the_soonest_start_is_where_the_disk_has_the_weights() -> None:
    one, two = node(gpus=(Gpu(8.0, kind="x"),)), node(gpus=(Gpu(8.0, kind="y"),))
    calls = [(0.0, 0), (20.0, 0)]
    sim = start((one, two), [model("a")], calls, Rules(placement="soonest"), gpu_class=1)
    sim.run(10.0)
    order(sim, gpu_class=-1)
    assert tiers(sim) == [REMOTE, COLD]


def test_a_second_load_of_the_same_weights_does_not_wait_for_the_first() -> None:
    # Both take half the network until 8. The first reads the disk (2) and copies (0.5): 10.5; the
    # second, which the disk does not keep, copies: 8.5.
    sim = start(node(), [model("a", alpha_s=10.0)], [(0.0, 0), (0.0, 0)])
    assert starts(sim) == pytest.approx([8.5, 10.5])
    assert sim.result().counters["loads_remote"] == 2
    assert sim.result().bill.network_gib == pytest.approx(8.0)
    assert sim.state.node[0, 0]["disk_used"] == 4 * GIB


def test_a_host_copy_fetched_ahead_comes_over_the_network_and_stays_on_the_disk() -> None:
    sim = start(node(host_gib=4.0), [model("a")], [(8.0, 0)], prewarm_host=1, host_keep_alive_s=INF)
    sim.run(5.9)  # 4/1 + 4/2
    assert sim.snapshot().on_host.tolist() == [[0]]
    sim.run(6.1)
    assert sim.snapshot().on_host.tolist() == [[1]] and on_disk(sim) == [THERE]
    assert starts(sim) == pytest.approx([8.5])
    assert tiers(sim) == [HOST]


def test_waiting_is_weighed_against_the_network_where_no_disk_has_the_weights() -> None:
    # A slot is free at 10 + 6.5 or 10 + 2.5 = 12.5; a second instance, from disk by then, would be
    # ready at 7 + 2.5 = 9.5 and is started. Without a disk it would take 4.5: 11.5, started too;
    # with a network of a tenth 40.5: not started.
    for network, loads in ((1.0, 2), (0.1, 1)):
        made = node(0.0, network=Link(network))
        first_s = made.load_s(model("a"), "remote")
        calls = [(0.0, 0), (first_s + 1.0, 0)]
        rules = Rules(scale_out="wait_vs_cold")
        sim = start(made, [model("a", alpha_s=10.0)], calls, rules)
        sim.run()
        assert sim.result().counters["loads_remote"] == loads


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": None}, "node.network = None.*disk_gib is finite"),
        ({"disk_gib": -1.0}, "node.disk_gib = -1.0.*>= 0"),
        ({"disk_gib": math.nan}, "node.disk_gib = nan.*>= 0"),
        ({"demotion": "slow"}, "node.demotion = 'slow'.*instant | copy"),
    ],
)
def test_a_bad_disk_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        replace(node(), **changes)
