"""Parked layers (RainbowCake) in the engine, by hand-worked times.

Units: seconds, GiB, GiB/s.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from by_hand import order
from test_mechanisms import start, times

from stoker.envs.cluster.decision import Capabilities, Decision, legalize
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node
from stoker.envs.workload.workload import Workload

INF = math.inf
GIB = 2**30


def model(name: str = "a", **changes: Any) -> Function:
    """Starts in 2 + 3 + 4 (weights over a disk of 1 GiB/s) + 0.5, serves in 1."""
    standard: dict[str, Any] = {
        "sandbox_s": 2.0, "runtime_s": 3.0, "warmup_s": 0.5, "alpha_s": 1.0,
        "runtime_gib": 1.0, "sandbox_gib": 0.25,
    }  # fmt: skip
    return Function(name, 4.0, 4.0, **{**standard, **changes})


def node(gpus: int = 1, host_gib: float = 8.0, **changes: Any) -> Node:
    return Node((Gpu(4.0),) * gpus, host_gib, 36.0, Link(1.0), **changes)


def start_on(nodes: tuple[Node, ...], calls: list[tuple[float, int]]) -> Simulation:
    at, which = np.array([t for t, _ in calls]), np.array([f for _, f in calls], np.int32)
    work = Workload(at, which, ("a", "b"), 1e5)
    return Simulation([Cluster(nodes, (model("a"), model("b")))], [work])


def counters(sim: Simulation) -> tuple[int, int, int]:
    c = sim.result().counters
    return c["layers_runtime"], c["layers_sandbox"], c["lent"]


def host_gib(sim: Simulation) -> float:
    return float(sim.state.node[0, 0]["host_used"]) / GIB


# What a start takes.


@pytest.mark.parametrize(
    ("gap_s", "start_s", "hit"),
    [
        (4.0, 0.0, (0, 0, 0)),  # idle on the device
        (6.0, 4.5, (1, 0, 0)),  # its process is parked from 5 to 15
        (14.0, 4.5, (1, 0, 0)),
        (16.0, 7.5, (0, 1, 0)),  # its sandbox from 15 to 35
        (34.0, 7.5, (0, 1, 0)),
        (36.0, 9.5, (0, 0, 0)),
    ],
)
def test_a_start_takes_what_is_left(gap_s: float, start_s: float, hit: tuple[int, ...]) -> None:
    again = 10.5 + gap_s
    sim = start(node(), [model()], [(0.0, 0), (again, 0)])
    order(sim, keep_alive_s=5.0, runtime_keep_alive_s=10.0, sandbox_keep_alive_s=20.0)
    assert times(sim) == pytest.approx([9.5, again + start_s])
    assert counters(sim) == hit


def test_load_s_counts_the_sandbox() -> None:
    cluster = Cluster(node(), (model(),))
    assert cluster.load_s(0) == 9.5 and cluster.load_s(0, "host") == 5.5


def test_start_up_work_is_what_the_start_took() -> None:
    sim = start(node(), [model()], [(0.0, 0), (20.0, 0)])
    order(sim, keep_alive_s=5.0, runtime_keep_alive_s=10.0)
    sim.run(50.0)
    assert sim.state.rows[0]["load_s"] == pytest.approx(9.5 + 4.5)


@pytest.mark.parametrize(("runtime", "start_s"), [("torch", 4.5), ("jax", 7.5), ("", 7.5)])
def test_a_process_serves_its_runtime_a_sandbox_everyone(runtime: str, start_s: float) -> None:
    # a's process is parked at 10.5; c's sandbox too, since it keeps no process.
    some = [model("a", runtime="torch"), model("b", runtime=runtime), model("c", runtime="torch")]
    sim = start(node(2), some, [(0.0, 0), (0.0, 2), (40.0, 1)])
    order(
        sim, keep_alive_s=0.0, runtime_keep_alive_s=[INF, 0.0, 0.0],
        sandbox_keep_alive_s=[0.0, 0.0, INF],
    )  # fmt: skip
    sim.run(30.0)
    assert host_gib(sim) == 1.25
    assert times(sim)[2] == pytest.approx(40.0 + start_s)
    assert host_gib(sim) == (0.25 if runtime == "torch" else 1.0)


def test_layers_stay_on_their_node() -> None:
    # a's process is parked on the first node, whose GPU b has taken when a comes again.
    cluster = Cluster((node(), node()), (model("a"), model("b", alpha_s=90.0)))
    at = Workload(np.array([0.0, 20.0, 21.0]), np.array([0, 1, 0], np.int32), ("a", "b"), 1e5)
    sim = Simulation([cluster], [at])
    order(sim, keep_alive_s=0.0, runtime_keep_alive_s=INF)
    assert times(sim) == pytest.approx([9.5, 29.5, 30.5])
    assert counters(sim) == (0, 0, 0)


def test_the_process_parked_last_is_taken_first() -> None:
    # a and b start side by side, with 8 GiB over the disk; b, slower to serve, is parked later.
    some = [model("a", runtime="r"), model("b", runtime="r", alpha_s=5.0)]
    sim = start(node(2), some, [(0.0, 0), (0.0, 1), (40.0, 0)])
    order(sim, keep_alive_s=0.0, runtime_keep_alive_s=INF)
    sim.run(39.0)
    assert sim.state.fn[0]["held_parked"].tolist() == [GIB, GIB]
    sim.run(41.0)
    assert sim.state.fn[0]["held_parked"].tolist() == [GIB, 0]


@pytest.mark.parametrize(("fork_s", "start_s", "left"), [(0.25, 4.75, 1), (4.0, 7.5, 0)])
def test_a_fork_competes_with_a_sandbox(fork_s: float, start_s: float, left: int) -> None:
    # b leaves two sandboxes, a's first start takes one. Its second could be a fork of the first.
    some = [model("a", fork_s=fork_s, alpha_s=100.0), model("b")]
    sim = start(node(2), some, [(0.0, 1), (0.0, 1), (30.0, 0), (60.0, 0)])
    order(sim, keep_alive_s=[INF, 0.0], sandbox_keep_alive_s=[0.0, INF])
    assert times(sim)[2:] == pytest.approx([37.5, 60.0 + start_s])
    assert host_gib(sim) == 0.25 * left
    assert counters(sim) == (0, 2 - left, 0)


def test_a_parked_process_beats_a_fork() -> None:
    # Two a; c at 50 evicts one, which leaves its process. At 60 the other is taken, at 61 a second
    # is wanted: c, idle again since 60.5, makes room.
    some = [model("a", fork_s=0.25, alpha_s=30.0), model("c")]
    sim = start(node(2), some, [(0.0, 0), (1.0, 0), (50.0, 1), (60.0, 0), (61.0, 0)])
    order(sim, runtime_keep_alive_s=[INF, 0.0])
    assert times(sim)[3:] == pytest.approx([60.0, 65.5])
    assert counters(sim) == (1, 0, 0)


# How long layers stay, and who pays.


def test_stages_end_to_the_second_and_are_paid_by_who_left_them() -> None:
    # Idle from 10.5; process 15.5 to 25.5, sandbox to 45.5: 10 x 1 + 20 x 0.25 = 15 GiB s.
    sim = start(node(), [model()], [(0.0, 0)])
    order(sim, keep_alive_s=5.0, runtime_keep_alive_s=10.0, sandbox_keep_alive_s=20.0)
    held = []
    for t in (15.4, 15.6, 25.4, 25.6, 45.4, 45.6):
        sim.run(t)
        held.append(host_gib(sim))
    assert held == [0.0, 1.0, 1.0, 0.25, 0.25, 0.0]
    bill = sim.result().bill
    assert bill.host_gib_s == pytest.approx(15.0)
    assert bill.host_usd == pytest.approx(15.0 * 36.0 / 3600.0)
    assert sim.state.fn[0]["acc_host_gib_s"].tolist() == pytest.approx([15.0])
    assert sim.state.rows[0]["free_n"] == sim.state.inst.shape[1]


def test_what_ends_earlier_by_a_new_decision_ends_then() -> None:
    sim = start(node(), [model()], [(0.0, 0)])
    order(sim, keep_alive_s=0.0, runtime_keep_alive_s=INF, sandbox_keep_alive_s=30.0)
    sim.run(20.0)
    order(sim, runtime_keep_alive_s=15.0)  # from 10.5: to 25.5
    sim.run(25.4)
    assert host_gib(sim) == 1.0
    sim.run(25.6)
    assert host_gib(sim) == 0.25
    order(sim, sandbox_keep_alive_s=0.0)
    assert host_gib(sim) == 0.0


def test_what_is_kept_longer_by_a_new_decision_stays() -> None:
    sim = start(node(), [model()], [(0.0, 0)])
    order(sim, keep_alive_s=0.0, runtime_keep_alive_s=15.0)
    sim.run(20.0)
    order(sim, runtime_keep_alive_s=100.0)
    sim.run(110.4)
    assert host_gib(sim) == 1.0
    sim.run(110.6)
    assert host_gib(sim) == 0.0


@pytest.mark.parametrize(("runtime_gib", "sandbox_gib"), [(0.0, 0.0), (0.0, 0.25), (1.0, 0.0)])
def test_a_layer_without_a_size_is_not_parked(runtime_gib: float, sandbox_gib: float) -> None:
    one = model(runtime_gib=runtime_gib, sandbox_gib=sandbox_gib)
    sim = start(node(), [one], [(0.0, 0)])
    order(sim, keep_alive_s=0.0, runtime_keep_alive_s=10.0, sandbox_keep_alive_s=10.0)
    sim.run(20.0)
    assert host_gib(sim) == max(runtime_gib, sandbox_gib)
    sim.run(25.0)
    assert host_gib(sim) == 0.0


def test_an_evicted_instance_leaves_its_process_too() -> None:
    sim = start(node(), [model("a"), model("b")], [(0.0, 0), (20.0, 1)])
    order(sim, keep_alive_s=INF, runtime_keep_alive_s=INF)
    sim.run(21.0)
    assert sim.result().counters["evictions"] == 1 and host_gib(sim) == 1.0


def test_many_layers_parked_at_one_instant_find_room_for_their_timers() -> None:
    # 256 instances make room for one of b at 50; each sets a timer, where the heap has 80 places.
    layer = {"runtime_gib": 0.01, "sandbox_gib": 0.0}
    small = replace(model("a", alpha_s=30.0, **layer), weights_gib=0.0, device_gib=4.0 / 256.0)
    some = [small, model("b")]
    sim = start(node(1), some, [*[(0.0, 0)] * 256, (50.0, 1)])
    order(sim, keep_alive_s=INF, runtime_keep_alive_s=[20.0, 0.0])
    sim.run(49.0)
    assert sim.state.fn[0]["idle"].tolist() == [256, 0] and sim.state.rows[0]["heap_n"] < 10
    sim.state.heap = sim.state.heap[:, :80].copy()
    sim.state.point()
    sim.run(69.9)
    assert host_gib(sim) == pytest.approx(2.56) and sim.state.heap.shape[1] > 256
    sim.run(70.1)
    assert host_gib(sim) == 0.0


def test_rows_with_images_of_their_own_have_room_for_later_clusters() -> None:
    few, more = Cluster(node(), (model("a"),)), Cluster(node(), (model("a"), model("b")))
    at = np.zeros(1), np.zeros(1, np.int32)
    sim = Simulation([few], [Workload(*at, ("a",), 100.0)], functions=2)
    sim.load(0, more, Workload(*at, ("a", "b"), 100.0), warmup_s=0.0)
    order(sim, keep_alive_s=0.0, runtime_keep_alive_s=INF)
    sim.run()
    assert sim.state.fn[0]["held_parked"].tolist() == [GIB, 0]


# What is refused, and what a real backend is not asked for.


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sandbox_s": -1.0}, "sandbox_s"),
        ({"runtime_gib": INF}, "runtime_gib"),
        ({"sandbox_gib": 2.0}, "sandbox_gib"),
        ({"lent_s": math.nan}, "lent_s"),
        ({"lend_after_s": 5.0}, "lend_after_s"),
        ({"lend_after_s": -1.0, "runtime": "r"}, "lend_after_s"),
    ],
)
def test_a_bad_layer_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError, match=rf"function\[a\]\.{field}"):
        model(**changes)


def test_a_backend_without_layers_is_not_asked_for_them() -> None:
    asked = Decision(runtime_keep_alive_s=np.ones((1, 1)), sandbox_keep_alive_s=np.ones((1, 1)))
    legal, clipped = legalize(asked, Capabilities(layers=False), np.array([[1]]))
    assert np.asarray(legal.runtime_keep_alive_s).tolist() == [[0.0]]
    assert np.asarray(legal.sandbox_keep_alive_s).tolist() == [[0.0]]
    assert clipped.tolist() == [[2]]
