"""Several nodes, classes of GPU and pipelined loads, against figures worked out by hand.

Units: seconds, GiB, GiB/s, dollars.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from by_hand import model, order, start, starts

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import (
    Cluster,
    Gpu,
    Link,
    Node,
    Objective,
    Service,
)
from stoker.envs.cluster.startup import serverlessllm
from stoker.envs.workload.workload import Workload

INF = math.inf
WARM, COLD, HOST = 0, 1, 3


def test_the_slowest_link_decides_a_pipelined_load() -> None:
    # 4 GiB over a disk of 1 and PCIe of 2: 4 + 2 one after the other, 4 in a pipeline.
    for loading, seconds in (("sequential", 6.0), ("pipelined", 4.0)):
        node = Node((Gpu(8.0),), disk=Link(1.0), pcie=Link(2.0), loading=loading)
        cluster = Cluster(node, (model("a"),))
        assert cluster.load_s(0) == seconds
        assert starts(start(cluster, [(0.0, 0)])) == pytest.approx([seconds])
    # and where PCIe is the slower: 4 / 0.5.
    node = Node((Gpu(8.0),), disk=Link(1.0), pcie=Link(0.5), loading="pipelined")
    assert starts(start(Cluster(node, (model("a"),)), [(0.0, 0)])) == pytest.approx([8.0])


@pytest.mark.parametrize("discipline", ["fair", "fifo"])
def test_a_pipelined_load_takes_what_the_closed_form_says(discipline: str) -> None:
    for disk, pcie in ((1.0, 3.0), (3.0, 1.0), (2.0, 2.0)):
        node = Node((Gpu(8.0),), disk=Link(disk, discipline), pcie=Link(pcie), loading="pipelined")
        expected = serverlessllm.limit_load_s(4.0, (disk, pcie))
        cluster = Cluster(node, (model("a"),))
        assert starts(start(cluster, [(0.0, 0)])) == pytest.approx([expected])


def test_pipelined_loads_share_the_disk() -> None:
    # Two of 4 GiB at half a GiB/s each until both are there at 8.
    node = Node((Gpu(8.0), Gpu(8.0)), disk=Link(1.0), pcie=Link(2.0), loading="pipelined")
    cluster = Cluster(node, (model("a"), model("b")))
    assert starts(start(cluster, [(0.0, 0), (0.0, 1)])) == pytest.approx([8.0, 8.0])


def test_a_pipelined_load_shares_the_pcie_link_that_it_passes_through() -> None:
    # b is loaded (0 to 1: PCIe decides), served, and left in host memory when it is dropped at 1.
    # At 10 a comes, 4 GiB at PCIe's 1; from 11 b's 1 GiB from the host halves it until 13: by then
    # a has 2 GiB, and the rest takes until 15.
    node = Node((Gpu(8.0),), host_gib=8.0, disk=Link(10.0), pcie=Link(1.0), loading="pipelined")
    cluster = Cluster(node, (model("a"), model("b", 1.0)))
    sim = start(cluster, [(0.0, 1), (10.0, 0), (11.0, 1)])
    order(sim, keep_alive_s=[0.0, 0.0], host_keep_alive_s=[0.0, INF])
    assert starts(sim) == pytest.approx([1.0, 15.0, 13.0])
    assert sim.result().outcome.tier.tolist() == [COLD, COLD, HOST]


def two_nodes(**changes: Any) -> Cluster:
    """Node 0 with a fast disk and GPU 0; node 1 with GPUs 1 and 2."""
    fast = Node((Gpu(8.0),), host_gib=8.0, disk=Link(4.0), pcie=Link(8.0))
    slow = Node((Gpu(16.0), Gpu(8.0)), host_gib=4.0, disk=Link(1.0), pcie=Link(8.0))
    return Cluster((fast, slow), (model("a"), model("b")), **changes)


@pytest.mark.parametrize(
    ("placement", "gpu", "seconds"),
    [("most_free", 1, 4.5), ("first_fit", 0, 1.5), ("best_fit", 0, 1.5), ("soonest", 0, 1.5)],
)
def test_placement_chooses_among_all_nodes(placement: str, gpu: int, seconds: float) -> None:
    # 4 GiB: 4/4 + 4/8 on node 0, 4/1 + 4/8 on node 1.
    sim = start(two_nodes(), [(0.0, 0)], placement=placement)
    assert starts(sim) == pytest.approx([seconds])
    assert sim.state.inst[0]["gpu"][sim.state.inst[0]["state"] == 2].tolist() == [gpu]


def test_best_fit_leaves_the_largest_hole() -> None:
    # b on the GPU of 8 that a has left 4 of, not on the empty ones.
    sim = start(two_nodes(), [(0.0, 0), (10.0, 1)], placement="best_fit")
    starts(sim)
    assert sim.state.gpu[0]["used"].tolist() == [8 * 2**30, 0, 0]


def test_the_soonest_start_may_be_where_the_host_copy_is() -> None:
    # a goes to the slow node by the order's class, is dropped to its host memory; then the copy
    # there (4/8) beats the fast node's disk (1.5).
    fast = Node((Gpu(8.0, kind="x"),), disk=Link(4.0), pcie=Link(8.0))
    slow = Node((Gpu(8.0, kind="y"),), host_gib=4.0, disk=Link(1.0), pcie=Link(8.0))
    cluster = Cluster((fast, slow), (model("a"),))
    assert cluster.kinds == ("x", "y")
    sim = start(cluster, [(0.0, 0), (20.0, 0)], placement="soonest")
    order(sim, keep_alive_s=0.0, host_keep_alive_s=INF, gpu_class=1)
    sim.run(10.0)
    assert sim.state.nf[0]["state"].tolist() == [0, 1]
    order(sim, gpu_class=-1)
    assert starts(sim) == pytest.approx([4.5, 20.5])
    assert sim.result().outcome.tier.tolist() == [COLD, HOST]


def test_a_host_copy_helps_on_its_own_node_alone() -> None:
    # First fit takes node 0 (1.5 s); while a has a copy there, b holds node 0's GPU: a loads from
    # node 1's disk.
    fast = Node((Gpu(4.0),), host_gib=8.0, disk=Link(4.0), pcie=Link(8.0))
    slow = Node((Gpu(4.0),), disk=Link(1.0), pcie=Link(8.0))
    cluster = Cluster((fast, slow), (model("a"), model("b", alpha_s=100.0)))
    sim = start(cluster, [(0.0, 0), (5.0, 1), (10.0, 0)], placement="first_fit")
    order(sim, keep_alive_s=[0.0, INF], host_keep_alive_s=INF)
    assert starts(sim) == pytest.approx([1.5, 6.5, 14.5])
    assert sim.result().outcome.tier.tolist() == [COLD, COLD, COLD]


def test_a_prewarmed_host_copy_goes_to_the_node_with_most_room() -> None:
    sim = start(two_nodes(), [(100.0, 0)])
    order(sim, prewarm_host=[1, 0], host_keep_alive_s=INF)
    sim.run(50.0)
    assert sim.state.node[0]["host_used"].tolist() == [4 * 2**30, 0]
    assert sim.snapshot().on_host.tolist() == [[1, 0]]


def test_service_times_are_those_of_the_gpu_class() -> None:
    nodes = Node((Gpu(4.0, kind="slow"), Gpu(8.0, kind="fast")))
    one = model("a", alpha_s=3.0, services=(Service("fast", 0.5, 0.25),))
    for asked, seconds in ((0, 3.0), (1, 0.75), (-1, 0.75)):
        sim = start(Cluster(nodes, (one,)), [(0.0, 0)])
        order(sim, gpu_class=asked)
        sim.run()
        assert sim.result().outcome.finish_s.tolist() == pytest.approx([seconds])


@pytest.mark.parametrize("asked", [0, 7])
def test_a_class_that_cannot_hold_the_function_is_clipped_to_any(asked: int) -> None:
    nodes = Node((Gpu(2.0, kind="small"), Gpu(8.0, kind="large")))
    sim = start(Cluster(nodes, (model("a"),)), [(0.0, 0)])
    order(sim, gpu_class=asked)
    sim.run()
    assert sim.result().outcome.start_s.tolist() == [0.0]
    assert sim.result().counters["clipped"] == 1


def test_every_gpu_is_paid_at_its_own_price_and_power() -> None:
    # a runs on the dear GPU from 0 to 2 and idles there until 10; the cheap one is off.
    dear = Gpu(10.0, price_usd_h=36.0, kind="dear", idle_w=50.0, busy_w=300.0)
    cheap = Gpu(5.0, price_usd_h=3.6, kind="cheap", idle_w=20.0, busy_w=100.0)
    for billing, rent in (("memory", 10.0 * 0.01 * 4.0 / 10.0), ("gpu", 10.0 * 0.01)):
        cluster = Cluster(
            (Node((cheap,)), Node((dear,))), (model("a", alpha_s=2.0),), Objective(billing=billing)
        )
        sim = start(cluster, [(0.0, 0)], until_s=10.0)
        order(sim, gpu_class=1)
        sim.run()
        bill = sim.result().bill
        assert bill.rent_usd == pytest.approx(rent)
        assert bill.energy_j == pytest.approx(2.0 * 300.0 + 8.0 * 50.0)
        assert bill.gpu_off_s == pytest.approx(10.0)
        assert sim.state.fn[0]["acc_rent"].sum() == pytest.approx(10.0 * 0.01 * 4.0 / 10.0)


def test_what_cannot_be_built_is_refused_by_name() -> None:
    one = (model("a"),)
    with pytest.raises(SpecError, match=r"cluster.nodes = 0\b.*expected at least one node"):
        Cluster((), one)
    with pytest.raises(SpecError, match=r"function\[a\].device_gib = 4.0\b.*expected <= 2"):
        Cluster((Node((Gpu(2.0),)), Node((Gpu(1.0),))), one)
    with pytest.raises(SpecError, match=r"node.loading = 'teleport'"):
        Node((Gpu(2.0),), loading="teleport")
    with pytest.raises(SpecError, match=r"function\[a\].services"):
        model("a", services=(Service("x", 1.0), Service("x", 2.0)))
    with pytest.raises(SpecError, match=r"service\[x\].alpha_s = nan"):
        Service("x", math.nan)
    with pytest.raises(SpecError, match=r"cluster.nodes = 2\b.*expected 1 here"):
        _ = two_nodes().node
    sim = start(Cluster(Node((Gpu(8.0),)), one), [(0.0, 0)])
    with pytest.raises(SpecError, match=r"cluster.functions = 2\b.*expected <= 1"):
        sim.load(0, two_nodes(), Workload(np.zeros(0), np.zeros(0, np.int32), ("a", "b"), 1.0),
                 warmup_s=0.0)  # fmt: skip


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "cluster.md").read_text()
    exec(page.split("```python")[1].split("```")[0], {})
    dollars, joules, cold = map(float, capsys.readouterr().out.split())
    assert dollars > 0.0 and joules > 0.0 and 0.0 < cold < 1.0
