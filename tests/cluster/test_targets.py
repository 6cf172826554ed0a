"""Targets: floors, limits and shares by GPU, against sequences worked out by hand.

Units: seconds, GiB.
"""

import math
from functools import partial
from typing import Any

import by_hand
import numpy as np
import pytest
from by_hand import starts

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node
from stoker.envs.cluster.targets import Targets
from stoker.envs.workload.workload import Workload

INF = math.inf
start = partial(by_hand.start, until_s=1000.0)
WARM, COLD, DROPPED, HOST = 0, 1, 2, 3
NO_CALLS: list[tuple[float, int]] = []


def model(name: str, gib: float = 4.0, **changes: Any) -> Function:
    """1 s to start."""
    return Function(name, gib, gib, runtime_s=1.0, **changes)


def gpus(*gib: float, kinds: str = "", **changes: Any) -> Node:
    named = kinds or "g" * len(gib)
    return Node(tuple(Gpu(s, kind=k) for s, k in zip(gib, named, strict=True)), **changes)


def aim(
    sim: Simulation, function: list[int], orders: dict[str, Any] | None = None, **columns: Any
) -> None:
    """Give row 0 a table of targets."""
    n = sim.state.fn.shape[1]
    given = {k: np.broadcast_to(np.asarray(v), (1, n)) for k, v in (orders or {}).items()}
    table = Targets(np.zeros(len(function), int), np.array(function, int), **columns)
    sim.apply(Decision(targets=table, **given))


def where(sim: Simulation, f: int) -> list[int]:
    """GPUs of the instances of f, loading or ready."""
    inst = sim.state.inst[0]
    there = ((inst["state"] == 1) | (inst["state"] == 2)) & (inst["fn"] == f)
    return sorted(inst["gpu"][there].tolist())


def counters(sim: Simulation) -> dict[str, int]:
    return sim.result().counters


def test_a_floor_is_loaded_where_it_says_and_does_not_expire() -> None:
    sim = start(Cluster(gpus(8.0, 8.0, 8.0), (model("a"), model("b"))), [(50.0, 0)])
    aim(sim, [0, 0], {"keep_alive_s": 2.0}, gpu=[2, 1], min=[1, 2])
    assert where(sim, 0) == [1, 1, 2]
    assert starts(sim) == [50.0]
    assert where(sim, 0) == [1, 1, 2] and counters(sim)["expiries"] == 0
    assert counters(sim)["prewarms"] == 3 and counters(sim)["clipped"] == 0


def test_what_exceeds_the_floor_expires_as_ever() -> None:
    # Two at once at 10: the floor's instance takes one, another is loaded (11) and idle from 16 on:
    # gone at 18.
    sim = start(Cluster(gpus(16.0), (model("a", alpha_s=5.0),)), [(10.0, 0), (10.0, 0)])
    aim(sim, [0], {"keep_alive_s": 2.0}, min=1)
    sim.run(17.9)
    assert where(sim, 0) == [0, 0]
    assert starts(sim) == [10.0, 11.0]
    assert where(sim, 0) == [0] and counters(sim)["expiries"] == 1


@pytest.mark.parametrize("eviction", ["lru", "greedy_dual", "score", "hazard"])
def test_a_floor_is_not_evicted(eviction: str) -> None:
    # Room for two; a is held. c takes b's place, then b takes c's, never a's.
    cluster = Cluster(gpus(8.0), (model("a"), model("b"), model("c")))
    sim = start(cluster, [(10.0, 1), (20.0, 2), (30.0, 1), (40.0, 0)], eviction=eviction)
    aim(sim, [0], min=1)
    assert starts(sim) == [11.0, 21.0, 31.0, 40.0]
    assert counters(sim)["evictions"] == 2 and where(sim, 0) == [0] and where(sim, 1) == [0]


def test_requests_wait_where_floors_fill_the_memory_until_they_are_lifted() -> None:
    sim = start(Cluster(gpus(8.0), (model("a"), model("b"))), [(10.0, 1)])
    aim(sim, [0], min=2)
    sim.run(20.0)
    aim(sim, [])
    assert starts(sim) == [21.0] and where(sim, 0) == [0] and where(sim, 1) == [0]


def test_a_floor_takes_the_place_of_what_is_idle_and_adopts_what_is_there() -> None:
    # a and b idle on the GPU at 20. The floor of two for a keeps a's and loads one over b's.
    sim = start(Cluster(gpus(8.0), (model("a"), model("b"))), [(0.0, 0), (10.0, 1)])
    sim.run(20.0)
    aim(sim, [0], min=2)
    assert where(sim, 0) == [0, 0] and where(sim, 1) == []
    assert counters(sim)["prewarms"] == 1 and counters(sim)["evictions"] == 1


def test_a_function_goes_where_its_targets_name_and_no_further() -> None:
    # Three at once: one on GPU 0, one on GPU 2 (the most free first), the third waits until 11.
    sim = start(Cluster(gpus(8.0, 80.0, 9.0), (model("a", alpha_s=10.0),)), [(0.0, 0)] * 3)
    aim(sim, [0, 0], gpu=[0, 2], max=1)
    sim.run(5.0)
    assert where(sim, 0) == [0, 2]
    assert starts(sim) == [1.0, 1.0, 11.0]


def test_a_class_is_one_target_over_all_its_gpus() -> None:
    cluster = Cluster(gpus(8.0, 8.0, 8.0, kinds="xyx"), (model("a", alpha_s=10.0),))
    sim = start(cluster, [(0.0, 0)] * 4)
    aim(sim, [0], gpu_class=0, max=3)
    assert starts(sim) == [1.0, 1.0, 1.0, 11.0]
    assert where(sim, 0) == [0, 0, 2]


def test_what_exceeds_a_limit_leaves_when_it_is_idle() -> None:
    # At 5 a is to be on GPU 1 alone: the instance on GPU 0 is busy until 11 and leaves then.
    sim = start(Cluster(gpus(9.0, 8.0), (model("a", alpha_s=10.0),)), [(0.0, 0), (20.0, 0)])
    sim.run(5.0)
    aim(sim, [0, 0], gpu=[0, 1], max=[0, 1])
    sim.run(10.9)
    assert where(sim, 0) == [0]
    sim.run(11.1)
    assert where(sim, 0) == []
    sim.run(50.0)
    assert where(sim, 0) == [1]
    # Idle when the order comes: gone at once, whatever the prewarm floor says, which goes to GPU 0.
    aim(sim, [0], {"prewarm": 1}, gpu=0, max=1)
    assert where(sim, 0) == [0] and counters(sim)["expiries"] == 2
    assert starts(sim) == [1.0, 21.0]


def test_a_table_replaces_the_one_before() -> None:
    sim = start(Cluster(gpus(8.0, 8.0), (model("a"), model("b"))), NO_CALLS)
    aim(sim, [0, 1], gpu=[0, 1], min=1, max=1)
    sim.run(5.0)
    aim(sim, [0], {"keep_alive_s": 0.0}, gpu=1, min=1)
    assert where(sim, 0) == [1] and where(sim, 1) == []


def test_an_instance_over_two_gpus_is_pinned_on_both_and_needs_both_named() -> None:
    # 4 GiB on each of two GPUs. GPU 0 is of another class; b may not take the memory of a's floor.
    wide = Function("a", 8.0, 8.0, runtime_s=1.0, gpus=2)
    cluster = Cluster(gpus(8.0, 4.0, 4.0, kinds="xyy"), (wide, model("b")))
    sim = start(cluster, [(10.0, 1), (20.0, 0)])
    aim(sim, [0, 1], gpu_class=[1, 1], min=[1, 0])
    sim.run(15.0)
    assert sim.state.gpu[0]["used"].tolist() == [0, 2**32, 2**32]
    assert sim.state.gpu[0]["evictable"].tolist() == [0, 0, 0]
    aim(sim, [])
    assert starts(sim) == [16.0, 20.0]  # b goes to GPU 0, which nobody forbids now
    sim = start(cluster, [(10.0, 0)])
    aim(sim, [0], gpu=1, min=1)
    assert math.isnan(starts(sim)[0]) and counters(sim)["clipped"] == 1


@pytest.mark.parametrize("order", ["fcfs", "edf", "collation"])
def test_whom_its_targets_bar_holds_nobody_up(order: str) -> None:
    # a may have one instance, which works until 21 for its first call; the second waits from 2 on.
    # b, which fits nowhere until c's batch ends at 11, comes after it and does not wait for it.
    cluster = Cluster(
        gpus(4.0, 4.0), (model("a", alpha_s=20.0), model("b"), model("c", alpha_s=10.0))
    )
    calls = [(0.0, 0), (0.0, 2), (2.0, 0), (3.0, 1)]
    sim = start(cluster, calls, order=order)
    aim(sim, [0], gpu=0, max=1)
    assert starts(sim) == [1.0, 1.0, 21.0, 12.0]


def test_who_was_barred_is_served_when_its_place_is_free_again() -> None:
    # a's only place is taken by an instance on a node that drains from 5 on: the call at 6 waits,
    # and starts on the other node once the batch there is done, at 11.
    node = gpus(8.0)
    sim = start(Cluster((node, node), (model("a", alpha_s=10.0),)), [(0.0, 0), (6.0, 0)])
    aim(sim, [0], gpu=1, max=1)
    sim.run(4.0)
    assert where(sim, 0) == [1]
    aim(sim, [0], max=1)
    sim.run(5.0)
    sim.apply(Decision(nodes_wanted=np.array([[1]])))
    assert starts(sim) == [1.0, 12.0]


def two_hosts() -> Cluster:
    """A GPU and a host of 8 GiB each; 4 GiB take 4 s from disk and 1 s from the host."""
    node = Node((Gpu(8.0),), host_gib=8.0, disk=Link(4.0 / 3.0), pcie=Link(4.0))
    return Cluster((node, node), tuple(Function(n, 4.0, 4.0) for n in "abc"))


def test_a_host_floor_is_fetched_kept_and_not_consumed_by_a_load() -> None:
    # The copy is on node 1 from 3 on; at 10 a loads from it there, leaves at once, and at 30 again.
    sim = start(two_hosts(), [(10.0, 0), (30.0, 0)], placement="soonest")
    aim(sim, [0], {"keep_alive_s": 0.0}, tier=1, gpu=1, min=1)
    sim.run(4.0)
    assert sim.state.nf[0].reshape(2, 3)["state"][:, 0].tolist() == [0, 1]
    sim.run(100.0)
    assert sim.result().outcome.start_s.tolist() == pytest.approx([11.0, 31.0])
    assert sim.result().outcome.tier.tolist() == [HOST, HOST]
    assert sim.snapshot().on_host.tolist() == [[1, 0, 0]]
    aim(sim, [])
    assert sim.snapshot().on_host.tolist() == [[0, 0, 0]]


def test_a_host_floor_does_not_make_room_for_others_and_a_limit_binds() -> None:
    # Node 0's host holds a and b for good; c, dropped there, finds no room. a may have one copy.
    sim = start(two_hosts(), [(10.0, 2), (20.0, 0)], placement="first_fit")
    orders = {"keep_alive_s": 0.0, "host_keep_alive_s": INF}
    aim(sim, [0, 1], orders, tier=1, gpu=0, min=1, max=1)
    sim.run(100.0)
    assert sim.state.nf[0].reshape(2, 3)["state"].tolist() == [[1, 1, 0], [0, 0, 0]]


def test_prewarm_and_scale_out_keep_to_the_targets() -> None:
    sim = start(Cluster(gpus(8.0, 80.0), (model("a"),)), [(10.0, 0)], overload="drop")
    aim(sim, [0], {"prewarm": 3}, gpu=0, max=1)
    assert where(sim, 0) == [0] and counters(sim)["refused"] == 1
    sim = start(Cluster(gpus(8.0), (model("a"),)), [(10.0, 0)], overload="drop")
    aim(sim, [0], max=0)
    sim.run()
    assert sim.result().outcome.tier.tolist() == [DROPPED]


def test_clips_count_and_a_floor_that_fits_is_loaded() -> None:
    sim = start(Cluster(gpus(8.0), (model("a"), model("b"))), NO_CALLS)
    aim(sim, [0, 1], min=[9, 1])
    assert where(sim, 0) == [0, 0] and where(sim, 1) == [] and counters(sim)["clipped"] == 2


def test_the_live_planner_counts_what_it_does_not_do() -> None:
    live = LiveEngine(Cluster(gpus(8.0), (model("a"),)))
    live.apply(Decision(targets=Targets([0, 0], 0, min=[1, 0])))
    assert live.effects() == [] and live.result(1.0).counters["clipped"] == 2


def test_rows_have_tables_of_their_own_that_grow() -> None:
    cluster = Cluster(gpus(8.0, 8.0), (model("a"), model("b")))
    empty = Workload(np.zeros(0), np.zeros(0, np.int32), ("a", "b"), 100.0)
    sim = Simulation([cluster] * 3, [empty] * 3)
    row, function = [2, 0, 2, 2], [1, 0, 0, 1]
    sim.apply(Decision(targets=Targets(row, function, gpu=[0, 1, 1, 1], min=1)))
    sim.run(5.0)
    n = [[sim.state.gf[k].reshape(2, 2)["n"].tolist() for k in range(3)]]
    assert n == [[[[0, 0], [1, 0]], [[0, 0], [0, 0]], [[0, 1], [1, 1]]]]


def test_loads_do_not_go_to_a_node_that_drains_though_a_target_names_it() -> None:
    node = gpus(8.0)
    sim = start(Cluster((node, node), (model("a"),)), [(10.0, 0)])
    aim(sim, [0], gpu=1, min=1, max=1)
    sim.run(5.0)
    sim.apply(Decision(nodes_wanted=np.array([[1]])))
    assert where(sim, 0) == []
    sim.run(20.0)
    sim.apply(Decision(nodes_wanted=np.array([[2]])))
    assert where(sim, 0) == [1] and starts(sim) == [21.0]
