"""The engine's start-up path against the closed forms of `startup/` and against hand-worked times.

Units: seconds, GiB, GiB/s.
"""

import math
from typing import Any

import by_hand
import numpy as np
import pytest
from by_hand import model, order

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Rules
from stoker.envs.cluster.startup import sabre, tetris, torpor
from stoker.envs.cluster.startup.pipeswitch import Layers
from stoker.envs.workload.workload import Workload

INF = math.inf
GIB = 2**30
WARM, COLD, HOST, PEER = 0, 1, 3, 5


def start(
    node: Node, functions: list[Function], calls: list[tuple[float, int]], **rules: Any
) -> Simulation:
    return by_hand.start(Cluster(node, tuple(functions)), calls, until_s=1e5, **rules)


def times(sim: Simulation, which: str = "start_s") -> list[float]:
    sim.run()
    found: list[float] = getattr(sim.result().outcome, which).tolist()
    return found


# Sabre: compressed weights on disk.


@pytest.mark.parametrize("ratio", [1.0, 2.0, 4.5])
@pytest.mark.parametrize("decompress", [1.5, INF])
@pytest.mark.parametrize("loading", ["sequential", "pipelined"])
def test_compressed_weights_load_as_sabre_says(
    ratio: float, decompress: float, loading: str
) -> None:
    store = sabre.SnapshotStore(1.0, ratio, decompress, pipelined=True)
    pcie = Link() if loading == "sequential" else Link(100.0)
    node = Node((Gpu(8.0),), disk=Link(1.0), pcie=pcie, loading=loading)
    one = model("a", compression=ratio, load_gib_s=decompress)
    assert times(start(node, [one], [(0.0, 0)])) == pytest.approx([store.restore_s(4.0)])
    assert node.load_s(one) == pytest.approx(store.restore_s(4.0))


def test_a_pipelined_load_carries_raw_bytes_over_pcie() -> None:
    # 4 GiB are 2 on disk: 2 / 1 from it, 4 / 1.6 over PCIe, which decides.
    node = Node((Gpu(8.0),), disk=Link(1.0), pcie=Link(1.6), loading="pipelined")
    sim = start(node, [model("a", compression=2.0)], [(0.0, 0)])
    assert times(sim) == pytest.approx([2.5])
    assert sim.result().bill.loaded_gib == pytest.approx(2.0)


# Catalyzer: a fork of a ready instance.


def test_a_second_instance_is_forked_from_the_first() -> None:
    # Two come at 0: nothing to fork from, 3 s each. The third, at 5, finds both busy: 0.1 s.
    node = Node((Gpu(12.0),))
    one = model("a", runtime_s=3.0, fork_s=0.1, alpha_s=20.0)
    sim = start(node, [one], [(0.0, 0), (0.0, 0), (5.0, 0)])
    assert times(sim) == pytest.approx([3.0, 3.0, 5.1])


def test_a_fork_needs_an_instance_on_the_same_node() -> None:
    one = model("a", runtime_s=3.0, fork_s=0.1, alpha_s=20.0)
    cluster = Cluster((Node((Gpu(4.0),)), Node((Gpu(4.0),))), (one,))
    at = Workload(np.array([0.0, 5.0]), np.zeros(2, np.int32), ("a",), 1e5)
    assert times(Simulation([cluster], [at], Rules())) == pytest.approx([3.0, 8.0])


# PipeSwitch: the first batch runs while its model loads.


def test_the_first_batch_ends_when_pipeswitch_says() -> None:
    layers = Layers((0.5, 1.0, 1.5, 1.0), (0.4, 0.1, 0.3, 0.6), 2.0)
    groups = layers.best_groups()
    one = model("a", alpha_s=sum(layers.compute_s), overlap_s=layers.overlap_s(groups))
    node = Node((Gpu(8.0),), host_gib=8.0, pcie=Link(layers.gib_s))
    sim = start(node, [one], [(0.0, 0), (50.0, 0)])
    cold_s, warm_s = times(sim, "finish_s")
    assert cold_s == pytest.approx(layers.finish_s(groups))
    assert cold_s < layers.copy_s(groups) + sum(layers.compute_s)
    assert warm_s == pytest.approx(50.0 + sum(layers.compute_s))


def test_a_load_ahead_of_demand_hides_nothing_of_the_service() -> None:
    one = model("a", runtime_s=1.0, alpha_s=2.0, overlap_s=0.5)
    sim = start(Node((Gpu(8.0),)), [one], [(10.0, 0)])
    order(sim, prewarm=1)
    assert times(sim, "finish_s") == pytest.approx([12.0])


# Tetris: weights shared in a family.


def kin(n: int, gib: float = 4.0, shared: float = 3.0, **changes: Any) -> list[Function]:
    names = [f"k{j}" for j in range(n)]
    return [model(x, gib, family="kin", shared_gib=shared, **changes) for x in names]


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_fine_tunes_hold_what_tetris_says(copies: int) -> None:
    sim = start(Node((Gpu(100.0),)), kin(copies), [(float(k), k) for k in range(copies)])
    sim.run(50.0)
    expected = tetris.fine_tunes_gib(4.0, copies, 0.75) * GIB
    assert sim.state.gpu[0]["used"].tolist() == [round(expected)]
    assert sim.state.rows[0]["used"] == sim.state.rows[0]["evictable"] == round(expected)


def test_a_load_moves_what_its_family_has_not_brought_yet() -> None:
    # k0: 4 GiB at 1; k1 at 10: 1 GiB. k2 at 10.5 too: at half a GiB/s both until k1 has its last
    # half GiB at 11.5, then k2's last half.
    node = Node((Gpu(100.0),), disk=Link(1.0))
    sim = start(node, kin(3), [(0.0, 0), (10.0, 1), (10.5, 2)])
    assert times(sim) == pytest.approx([4.0, 11.5, 12.0])


def test_shared_weights_leave_with_the_last_of_the_family() -> None:
    # 9 GiB: k0 (4) and k1 (1 more) leave 4. big (6) needs 2: k0's own one, then k1's and the 3.
    big = model("big", 6.0)
    sim = start(Node((Gpu(9.0),)), [*kin(2), big], [(0.0, 0), (1.0, 1), (2.0, 2)])
    sim.run(1.5)
    assert sim.state.gpu[0]["used"][0] == 5 * GIB
    sim.run(3.0)
    assert sim.state.gpu[0]["used"][0] == 6 * GIB
    assert sim.result().counters["evictions"] == 2


def test_a_newcomer_that_loses_its_family_finds_room_for_all_of_itself() -> None:
    # 7 GiB: k0 (4) and other (2.5). k1 needs 1, has 0.5: k0 is older and goes, and with it the
    # shared 3; now k1 needs 4 and has 4.5.
    other = model("other", 2.5)
    sim = start(Node((Gpu(7.0),)), [*kin(2), other], [(0.0, 0), (1.0, 2), (2.0, 1)])
    sim.run(3.0)
    assert sim.state.gpu[0]["used"][0] == round(6.5 * GIB)
    assert sim.state.fn[0]["n"].tolist() == [0, 1, 1]


def test_shared_weights_are_charged_once_and_passed_on() -> None:
    # k0 pays 4 from 0 to 10; k1 pays 1 from 5 to 10, and after k0 has gone 4 until 20.
    sim = start(Node((Gpu(100.0, price_usd_h=36.0),)), kin(2), [(0.0, 0), (5.0, 1)])
    sim.run(10.0)
    order(sim, keep_alive_s=[0.0, INF])
    sim.run(20.0)
    sim.result()
    assert sim.state.fn[0]["acc_gib_s"].tolist() == pytest.approx([40.0, 5.0 + 40.0])
    assert sim.state.gpu[0]["byte_s"][0] / GIB == pytest.approx(85.0)
    assert sim.state.fn[0]["acc_rent"].sum() == pytest.approx(85.0 * 36.0 / 100.0 / 3600.0)


def test_shared_bytes_placement_goes_where_the_family_is() -> None:
    node = Node((Gpu(8.0), Gpu(80.0)))
    for placement, used in (("shared_bytes", [5.0, 0.0]), ("most_free", [4.0, 4.0])):
        first = model("x", 79.0, alpha_s=0.5)
        sim = start(node, [first, *kin(2)], [(0.0, 0), (0.2, 1), (5.0, 2)], placement=placement)
        order(sim, keep_alive_s=[0.0, INF, INF])
        sim.run(10.0)
        assert (sim.state.gpu[0]["used"] / GIB).tolist() == used


def test_a_family_must_agree_on_what_it_shares() -> None:
    with pytest.raises(SpecError, match=r"function\[b\].shared_gib = 2.0 .*3.0 \(as all"):
        Cluster(
            Node((Gpu(8.0),)),
            (
                model("a", family="kin", shared_gib=3.0),
                model("b", family="kin", shared_gib=2.0),
            ),
        )
    with pytest.raises(SpecError, match=r"function\[a\].shared_gib = 5.0"):
        model("a", family="kin", shared_gib=5.0)
    with pytest.raises(SpecError, match=r"function\[a\].shared_gib = 1.0"):
        model("a", shared_gib=1.0)


# Torpor: a copy from a peer GPU.


def test_weights_on_a_peer_come_over_nvlink() -> None:
    swap = torpor.Swap(4.0, 20.0, pcie_gib_s=2.0, nvlink_gib_s=8.0)
    node = Node((Gpu(4.0), Gpu(4.0)), disk=Link(1.0), pcie=Link(2.0), nvlink=Link(8.0))
    sim = start(node, [model("a", alpha_s=20.0)], [(0.0, 0), (10.0, 0)])
    first, second = times(sim, "finish_s")
    assert (first, second) == pytest.approx((26.0, 10.0 + swap.peer_s))
    assert sim.result().outcome.tier.tolist() == [COLD, PEER]
    assert sim.result().counters["loads_peer"] == 1
    assert sim.result().summary()["cold_ratio"] == 1.0


def test_a_slower_nvlink_than_the_host_copy_is_left_alone() -> None:
    # b's copy in host memory (4 / 2) against a peer over a link of 1.
    node = Node((Gpu(4.0), Gpu(4.0)), host_gib=4.0, pcie=Link(2.0), nvlink=Link(1.0))
    one = model("a", alpha_s=100.0)
    sim = start(node, [one], [(0.0, 0), (200.0, 0), (210.0, 0)])
    order(sim, keep_alive_s=0.0, host_keep_alive_s=INF)
    sim.run(150.0)
    order(sim, keep_alive_s=INF)
    sim.run()
    assert sim.result().outcome.tier.tolist() == [COLD, HOST, COLD]


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"compression": 0.0}, "compression"), ({"fork_s": -1.0}, "fork_s"),
     ({"overlap_s": math.nan}, "overlap_s")],
)  # fmt: skip
def test_a_bad_start_up_option_is_refused_by_name(changes: dict[str, float], field: str) -> None:
    with pytest.raises(SpecError, match=rf"function\[a\]\.{field}"):
        model("a", **changes)


def test_a_function_that_its_family_makes_room_for_need_not_gather_requests() -> None:
    # 6 GiB hold k0 (4); k1 takes 1 more, there is room: one request is enough, whatever the rule.
    params = {"order_required_requests": 3.0, "order_max_wait_s": 50.0}
    sim = start(
        Node((Gpu(6.0),)), kin(2), [(0.0, 0), (1.0, 1)], order="required_request_count",
        params=params,
    )  # fmt: skip
    assert times(sim) == [0.0, 1.0]


def test_free_memory_of_another_class_does_not_excuse_from_gathering_requests() -> None:
    # b may use class x alone, which a holds: its one request waits the 5 s and then evicts a.
    node = Node((Gpu(4.0, kind="x"), Gpu(8.0, kind="y")))
    params = {"order_required_requests": 3.0, "order_max_wait_s": 5.0}
    sim = start(
        node, [model("a"), model("b")], [(0.0, 0), (1.0, 1)], order="required_request_count",
        params=params,
    )  # fmt: skip
    order(sim, gpu_class=0)
    assert times(sim) == [0.0, 6.0]
