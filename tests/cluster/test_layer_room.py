"""Parked layers where host memory is short or their node goes, by hand-worked times.

Units: seconds, GiB, GiB/s.
"""

import numpy as np
import pytest
from by_hand import order
from test_layers import GIB, INF, host_gib, model, node, start_on
from test_mechanisms import start

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.spec import Link

# Host memory that is short.


@pytest.mark.parametrize(
    ("room_gib", "held"),
    [(2.5, [GIB, GIB]), (1.5, [GIB, GIB // 4]), (1.1, [GIB, 0]), (0.0, [0, 0])],
)
def test_parking_takes_free_room_only(room_gib: float, held: list[int]) -> None:
    sim = start(node(2, room_gib), [model("a"), model("b")], [(0.0, 0), (5.0, 1)])
    order(sim, keep_alive_s=0.0, runtime_keep_alive_s=INF, sandbox_keep_alive_s=INF)
    sim.run(50.0)
    assert sim.state.fn[0]["held_parked"].tolist() == held


def test_weights_push_out_sandboxes_then_the_oldest_process() -> None:
    # 5.25 GiB hold the processes of a and b and the sandbox of c. d's weights need 4: the sandbox
    # goes, which is not enough, then a's process, which was parked first.
    some = [model("a"), model("b"), model("c"), model("d", runtime_gib=0.0)]
    calls = [(0.0, 0), (20.0, 1), (40.0, 2), (60.0, 3)]
    sim = start(node(1, 5.25), some, calls)
    order(
        sim, keep_alive_s=0.0, runtime_keep_alive_s=[INF, INF, 0.0, 0.0],
        sandbox_keep_alive_s=[0.0, 0.0, INF, 0.0], host_keep_alive_s=[0.0, 0.0, 0.0, INF],
    )  # fmt: skip
    sim.run(59.0)
    assert host_gib(sim) == 2.25
    sim.run(100.0)
    assert sim.state.fn[0]["held_parked"].tolist() == [0, GIB, 0, 0]
    assert sim.state.fn[0]["hosts"].tolist() == [0, 0, 0, 1]
    assert host_gib(sim) == 5.0


def test_a_parked_process_does_not_pass_for_a_host_copy() -> None:
    sim = start(node(), [model()], [(0.0, 0)])
    order(sim, keep_alive_s=0.0, runtime_keep_alive_s=INF)
    sim.run(20.0)
    order(sim, prewarm_host=1, host_keep_alive_s=INF)
    sim.run(30.0)
    assert sim.state.fn[0]["hosts"].tolist() == [1] and host_gib(sim) == 5.0


# Nodes that go off, copies that take their time.


def test_a_node_that_goes_off_takes_its_layers_along() -> None:
    # a and b side by side on two nodes, both parked at 10.5; at 20 only one node is wanted.
    sim = start_on((node(), node()), [(0.0, 0), (0.0, 1)])
    order(sim, keep_alive_s=0.0, runtime_keep_alive_s=INF)
    sim.run(20.0)
    assert sim.state.node[0]["host_used"].tolist() == [GIB, GIB]
    sim.apply(Decision(nodes_wanted=np.array([[1.0]])))
    sim.run(21.0)
    assert sim.state.node[0]["host_used"].tolist() == [GIB, 0]


def test_nothing_is_parked_on_a_node_that_drains() -> None:
    sim = start_on((node(), node()), [(0.0, 0), (0.0, 1)])
    order(sim, keep_alive_s=INF, runtime_keep_alive_s=INF)
    sim.run(5.0)
    sim.apply(Decision(nodes_wanted=np.array([[1.0]])))
    sim.run(50.0)
    assert sim.state.node[0]["state"].tolist() == [0, 2]
    assert sim.state.node[0]["host_used"].tolist() == [GIB, 0]  # a's, which made room for b again


def test_a_process_is_parked_beside_weights_on_their_way_down() -> None:
    # 2 s over PCIe each way: a works from 11.5 to 12.5, its weights are down at 14.5, its process
    # stays until 22.5.
    place = node(1, 8.0, pcie=Link(2.0), demotion="copy")
    sim = start(place, [model()], [(0.0, 0)])
    order(sim, keep_alive_s=0.0, runtime_keep_alive_s=10.0, host_keep_alive_s=INF)
    sim.run(13.0)
    held = sim.state.fn[0]["hosts"].tolist(), host_gib(sim)
    assert held == ([0], 5.0)
    sim.run(15.0)
    held = sim.state.fn[0]["hosts"].tolist(), host_gib(sim)
    assert held == ([1], 5.0)
    sim.run(30.0)
    assert host_gib(sim) == 4.0
