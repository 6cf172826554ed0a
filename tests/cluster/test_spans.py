"""Functions over several GPUs, against figures worked out by hand and against one large GPU.

Units: seconds, GiB, GiB/s, dollars, watts.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from by_hand import order, start, starts
from hypothesis import given, settings
from hypothesis import strategies as st
from small_clusters import FAR_S, QUICK, Case, Orders, cases, decide, rules
from table_checks import check_row

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Objective, Rules

INF = math.inf
BUSY_S = 40.0
WARM, COLD, DROPPED, HOST = 0, 1, 2, 3
GIB = 2**30
ONE, OTHER = Gpu(8.0), Gpu(8.0, kind="other")


def model(name: str, gib: float, gpus: int = 1, **changes: Any) -> Function:
    return Function(name, gib, gib, gpus=gpus, **changes)


def used(sim: Simulation) -> list[float]:
    found: list[float] = (sim.state.gpu[0]["used"] / GIB).tolist()
    return found


@pytest.mark.parametrize(
    ("loading", "gpus", "seconds"),
    [
        # 8 GiB over a disk of 4: 2 s; over PCIe 8 / gpus each at 1.
        ("sequential", 1, 10.0), ("sequential", 2, 6.0), ("sequential", 4, 4.0),
        # the slowest link decides: PCIe up to four GPUs, the disk beyond
        ("pipelined", 1, 8.0), ("pipelined", 2, 4.0), ("pipelined", 4, 2.0), ("pipelined", 8, 2.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("discipline", ["fair", "fifo"])
def test_each_gpu_gets_its_share_over_its_own_link(
    loading: str, gpus: int, seconds: float, discipline: str
) -> None:
    node = Node((ONE,) * 8, 0.0, 0.0, Link(4.0, discipline), Link(1.0, discipline), loading)
    cluster = Cluster(node, (model("a", 8.0, gpus),))
    assert cluster.load_s(0) == seconds
    sim = start(cluster, [(0.0, 0)])
    assert starts(sim) == pytest.approx([seconds])
    assert sorted(used(sim)) == [0.0] * (8 - gpus) + [8.0 / gpus] * gpus
    assert sim.result().bill.loaded_gib == pytest.approx(8.0)  # once over the disk


def test_from_the_host_copy_pcie_alone_counts() -> None:
    # From disk 8/4 + 4/1 = 6; dropped to the host when it is done, then 4/1.
    node = Node((ONE,) * 2, 16.0, disk=Link(4.0), pcie=Link(1.0))
    sim = start(Cluster(node, (model("a", 8.0, 2),)), [(0.0, 0), (10.0, 0)])
    order(sim, keep_alive_s=0.0, host_keep_alive_s=INF)
    assert starts(sim) == pytest.approx([6.0, 14.0])
    assert sim.result().outcome.tier.tolist() == [COLD, HOST]


def test_the_way_down_to_the_host_is_over_each_link_too() -> None:
    # There at 4 (8/2 over PCIe at 1), dropped then; its copy is complete 4 s later, at 8. A start
    # at 6 finds none and reads the disk, one at 9 the host.
    node = Node((ONE,) * 2, 16.0, pcie=Link(1.0), demotion="copy")
    for second, tier in ((6.0, COLD), (9.0, HOST)):
        sim = start(Cluster(node, (model("a", 8.0, 2),)), [(0.0, 0), (second, 0)])
        order(sim, keep_alive_s=0.0, host_keep_alive_s=INF)
        assert starts(sim) == pytest.approx([4.0, second + 4.0])
        assert sim.result().outcome.tier.tolist() == [COLD, tier]


def test_weights_are_not_copied_from_a_peer() -> None:
    # NVLink at 64 would take 1/8 s, but each further start of a span comes over PCIe: 8/2 at 1.
    node = Node((ONE,) * 4, pcie=Link(1.0), nvlink=Link(64.0))
    cluster = Cluster(node, (model("a", 8.0, 2, alpha_s=100.0),))
    assert cluster.load_s(0, "peer") == INF
    sim = start(cluster, [(0.0, 0), (10.0, 0)])
    assert starts(sim) == pytest.approx([4.0, 14.0])
    assert sim.result().outcome.tier.tolist() == [COLD, COLD]


def test_two_spanning_loads_share_each_link() -> None:
    # 4 GiB on each GPU at 1. Alone until 2; then halves: a has 2 left, ready at 6; b then has 2
    # left, alone again: ready at 8.
    node = Node((ONE,) * 2, pcie=Link(1.0))
    cluster = Cluster(node, (model("a", 8.0, 2), model("b", 8.0, 2)))
    assert starts(start(cluster, [(0.0, 0), (2.0, 1)])) == pytest.approx([6.0, 8.0])


@pytest.mark.parametrize("sizes", [(8.0, 8.0), (4.0, 8.0)])
def test_a_small_load_on_one_of_the_links_delays_the_whole(sizes: tuple[float, float]) -> None:
    # a: 4 GiB on GPUs 0 and 1 from 0. c: 2 GiB on the one with room from 1, where a has 3 left:
    # halves. c is there at 5, a then has 1 left: 6. (The other GPU has been ready since 4.)
    node = Node(tuple(Gpu(size) for size in sizes), pcie=Link(1.0))
    cluster = Cluster(node, (model("a", 8.0, 2), model("c", 2.0)))
    sim = start(cluster, [(0.0, 0), (1.0, 1)], placement="first_fit")
    assert starts(sim) == pytest.approx([6.0, 5.0])
    # fifo: c waits until a's copy to that GPU is over.
    fifo = Cluster(replace(node, pcie=Link(1.0, "fifo")), cluster.functions)
    sim = start(fifo, [(0.0, 0), (1.0, 1)], placement="first_fit")
    assert starts(sim) == pytest.approx([4.0, 6.0])


def test_spans_that_overlap_in_one_gpu() -> None:
    # a on 0 and 1, b on 1 and 2 (0 is full). GPU 1 is shared: 8 s for both.
    node = Node((Gpu(4.0), Gpu(8.0), Gpu(4.0)), pcie=Link(1.0))
    cluster = Cluster(node, (model("a", 8.0, 2), model("b", 8.0, 2)))
    sim = start(cluster, [(0.0, 0), (0.0, 1)], placement="first_fit")
    assert starts(sim) == pytest.approx([8.0, 8.0])
    assert used(sim) == [4.0, 8.0, 4.0]


@pytest.mark.parametrize("sizes", [(8.0, 8.0), (4.0, 8.0)])
def test_a_small_load_slows_a_pipelined_span_on_either_gpu(sizes: tuple[float, float]) -> None:
    # a at 2 GiB/s over both links until c comes from the host at 1 (dropped there at its first
    # end): c has half of a link for 4 s, to 5, and a 1 GiB/s. 8 = 2 + 4 + 2: ready at 6.
    gpus = tuple(Gpu(size) for size in sizes)
    node = Node(gpus, 8.0, disk=Link(4.0), pcie=Link(1.0), loading="pipelined")
    cluster = Cluster(node, (model("a", 8.0, 2), model("c", 2.0)))
    sim = start(cluster, [(0.0, 1), (10.0, 0), (11.0, 1)], placement="first_fit")
    order(sim, keep_alive_s=[INF, 0.0], host_keep_alive_s=[0.0, INF])
    assert starts(sim) == pytest.approx([2.0, 16.0, 15.0])
    assert sim.result().outcome.tier.tolist() == [COLD, COLD, HOST]


def test_pipelined_spans_share_the_links_that_they_pass_through() -> None:
    # PCIe 1 each, disk 4. Two spans of 8 GiB at 0: half of each PCIe link, 1 GiB/s: 8 s.
    node = Node((ONE,) * 2, disk=Link(4.0), pcie=Link(1.0), loading="pipelined")
    cluster = Cluster(node, (model("a", 8.0, 2), model("b", 8.0, 2), model("c", 2.0)))
    assert starts(start(cluster, [(0.0, 0), (0.0, 1)])) == pytest.approx([8.0, 8.0])
    # a and c, on GPU 0: c half of it, 2 / 0.5 = 4; a 1 GiB/s until then, 2 after: 4 + 4/2 = 6.
    sim = start(cluster, [(0.0, 0), (0.0, 2)], placement="first_fit")
    assert starts(sim) == pytest.approx([6.0, 4.0])
    # and on a disk that takes one at a time b follows a: 4, then 8.
    one = replace(node, disk=Link(4.0, "fifo"))
    sim = start(Cluster(one, cluster.functions), [(0.0, 0), (0.0, 1)])
    assert starts(sim) == pytest.approx([4.0, 8.0])


def test_the_bill_counts_every_gpu() -> None:
    # a on 2 of 3 GPUs: 4 s of loading, 2 s of service, 4 s idle on each; the third is off.
    gpu = Gpu(8.0, 3.6, idle_w=50.0, busy_w=300.0)
    cluster = Cluster(
        Node((gpu,) * 3, pcie=Link(1.0)), (model("a", 8.0, 2, alpha_s=2.0),), Objective()
    )
    sim = start(cluster, [(0.0, 0)], until_s=10.0)
    assert starts(sim) == [4.0]
    bill = sim.result().bill
    assert (bill.gpu_busy_s, bill.gpu_loading_s) == (4.0, 8.0)
    assert (bill.gpu_idle_s, bill.gpu_off_s) == (8.0, 10.0)
    assert bill.energy_j == pytest.approx(4.0 * 300.0 + 16.0 * 50.0)
    assert bill.device_gib_s == pytest.approx(80.0)  # 4 GiB x 2 GPUs x 10 s
    assert bill.rent_usd == pytest.approx(80.0 * 3.6 / 3600.0 / 8.0)
    whole = replace(cluster, objective=Objective(billing="gpu"))
    sim = start(whole, [(0.0, 0)], until_s=10.0)
    sim.run()
    assert sim.result().bill.rent_usd == pytest.approx(2 * 10.0 * 3.6 / 3600.0)


def test_each_gpu_charges_its_own_price() -> None:
    node = Node((Gpu(8.0, 1.0), Gpu(8.0, 3.0)), pcie=Link(1.0))
    sim = start(Cluster(node, (model("a", 8.0, 2),)), [(0.0, 0)], until_s=10.0)
    sim.run()
    expected = 4.0 * 10.0 * (1.0 + 3.0) / 3600.0 / 8.0
    assert sim.result().bill.rent_usd == pytest.approx(expected)
    assert sim.state.fn[0]["acc_rent"].sum() == pytest.approx(expected)


def test_tables_grow_for_the_shards() -> None:
    # 40 instances over 4 GPUs each take 160 slots; there are 64 at first.
    cluster = Cluster(Node((Gpu(40.0),) * 4), (model("a", 4.0, 4, alpha_s=9.0),))
    sim = start(cluster, [(0.0, 0)] * 40)
    assert starts(sim) == [0.0] * 40
    assert used(sim) == [40.0] * 4
    sim = start(cluster, [])
    order(sim, prewarm=40)
    assert sim.state.fn[0]["n"].tolist() == [40]
    assert sim.state.rows[0]["refused"] == 0


def test_a_function_too_large_for_its_gpus_is_dropped_if_asked_to() -> None:
    oversized = Cluster(Node((ONE,) * 2), (model("a", 17.0, 2),), drop_oversized=True)
    sim = start(oversized, [(0.0, 0)])
    sim.run()
    assert sim.result().outcome.tier.tolist() == [DROPPED]


@pytest.mark.parametrize(
    ("nodes", "gib", "gpus", "said"),
    [
        (Node((ONE,) * 2), 17.0, 2, r"function\[a\].device_gib = 17.0 .*<= 16.0 \(2 GPUs of one"),
        ((Node((ONE,)), Node((ONE,))), 8.0, 2, r"function\[a\].gpus = 2 .*<= 1 \(GPUs of one"),
        (Node((ONE, OTHER)), 8.0, 2, r"function\[a\].gpus = 2 .*<= 1"),
        (Node((ONE, Gpu(4.0), OTHER)), 9.0, 2, r"device_gib = 9.0 .*<= 8.0"),
        (
            Node((ONE, Gpu(8.0, sharing="exclusive"))),
            8.0,
            2,
            r"gpu.sharing = 'exclusive' .*parallel \(function\[a\] spans 2 GPUs",
        ),
    ],
)
def test_a_cluster_that_cannot_hold_it_is_refused(
    nodes: Any, gib: float, gpus: int, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        Cluster(nodes, (model("a", gib, gpus),))


@pytest.mark.parametrize("gpus", [0, -1, 9, 1.5])
def test_the_number_of_gpus_is_checked(gpus: Any) -> None:
    with pytest.raises(SpecError, match=rf"function\[a\].gpus = {gpus} .*1..8"):
        model("a", 8.0, gpus)


def test_what_does_not_go_with_it_is_refused() -> None:
    with pytest.raises(SpecError, match=r"shared_gib = 1.0 .*0 .an instance spans 2 GPUs"):
        model("a", 8.0, 2, family="kin", shared_gib=1.0)
    cluster = Cluster(Node((ONE,) * 2), (model("a", 8.0, 2),))
    with pytest.raises(SpecError, match=r"function\[a\].gpus = 2 .*1 .on a real backend"):
        LiveEngine(cluster)


def halved(cluster: Cluster, gpus: int) -> Cluster:
    """The same cluster with every GPU in so many parts, and every function over all of them."""
    nodes = tuple(
        replace(
            node,
            gpus=(replace(node.gpus[0], memory_gib=node.gpus[0].memory_gib / gpus,
                          price_usd_h=node.gpus[0].price_usd_h / gpus),) * gpus,
            pcie=replace(node.pcie, gib_s=node.pcie.gib_s / gpus),
        )
        for node in cluster.all_nodes
    )  # fmt: skip
    return replace(
        cluster, nodes=nodes, functions=tuple(replace(f, gpus=gpus) for f in cluster.functions)
    )


def outcome(case: Case, chosen: Rules) -> tuple[Any, dict[str, int], Any]:
    sim, orders = Simulation([case.cluster], [case.workload], chosen), Orders(case, chosen)
    now = 0.0
    while now < BUSY_S:
        asked = orders.next()
        asked.pop("targets", None)  # they name GPUs
        decide(sim, [asked])
        now += case.tick_s
        sim.run(now)
        check_row(sim, 0)
    sim.run(FAR_S / 2)
    result = sim.result()
    return result.outcome, result.counters, result.bill


@given(cases(("parallel",), 2), rules(), st.sampled_from([2, 4]))
@settings(QUICK, max_examples=60)
def test_over_all_gpus_of_a_node_it_is_as_on_one_large_gpu(
    case: Case, chosen: Rules, gpus: int
) -> None:
    functions = tuple(
        replace(f, family="", shared_gib=0.0, gpus=1, weights_gib=f.weights_gib / f.gpus,
                device_gib=f.device_gib / f.gpus)
        for f in case.cluster.functions
    )  # fmt: skip
    nodes = tuple(replace(node, gpus=node.gpus[:1], nvlink=None) for node in case.cluster.all_nodes)
    large = replace(case.cluster, nodes=nodes, functions=functions)
    chosen = replace(chosen, futile_eviction="never")  # a span never evicts in vain
    one, counted, bill = outcome(replace(case, cluster=large), chosen)
    many, recounted, rebill = outcome(replace(case, cluster=halved(large, gpus)), chosen)
    assert one.tier.tolist() == many.tier.tolist()
    assert np.allclose(one.start_s, many.start_s, rtol=1e-9, atol=1e-6, equal_nan=True)
    assert np.allclose(one.finish_s, many.finish_s, rtol=1e-9, atol=1e-6, equal_nan=True)
    counted.pop("events"), recounted.pop("events")  # a copy over each link ends by itself
    assert counted == recounted
    assert rebill.rent_usd == pytest.approx(bill.rent_usd)
    assert rebill.gpu_busy_s == pytest.approx(gpus * bill.gpu_busy_s)
    assert rebill.gpu_loading_s == pytest.approx(gpus * bill.gpu_loading_s)
    assert rebill.energy_j == pytest.approx(gpus * bill.energy_j)
