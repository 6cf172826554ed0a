"""AlpaServe's placement and the autoscaler of nodes, against figures worked out by hand.

Units: seconds, GiB.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stoker.baselines.alpaserve import AlpaServe
from stoker.baselines.hpa import HpaNodes
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import Simulation, simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Objective
from stoker.envs.workload.workload import Workload


def model(name: str, gib: float = 4.0, **changes: Any) -> Function:
    return Function(name, gib, gib, **changes)


def placed(policy: AlpaServe, cluster: Cluster, *rates: list[float]) -> list[Any]:
    policy.reset(cluster, len(rates))
    found: list[Any] = policy.place(np.array(rates)).astype(int).tolist()
    return found


def test_greedy_placement_serves_the_most_unserved_first() -> None:
    # Half a second of work each. Row 0: a (3/s) to GPU 0, which serves 2 of 3 then; b (1.2/s) to
    # GPU 1; a (1/s unserved) to GPU 1, too: loads 0.75 and 1.35; now b misses 0.31/s, a 0.39/s but
    # is everywhere, c 0.1/s: b fills GPU 0 and c has no place.
    # Row 1: all are served by one replica each: the third goes to the GPU of less load.
    names = [model(n, alpha_s=0.5) for n in "abc"]
    cluster = Cluster(Node((Gpu(8.0), Gpu(8.0))), tuple(names))
    first, second = placed(AlpaServe(), cluster, [3.0, 1.2, 0.1], [0.5, 0.4, 0.3])
    assert first == [[1, 1], [1, 1], [0, 0]]
    assert second == [[1, 0], [0, 1], [0, 1]]


def test_placement_keeps_to_the_memory_and_knows_batches_and_classes() -> None:
    # The large model fits GPU 1 alone. b works 1 s on x and 0.1 s on y, 8 a batch: 0.125 s on x.
    large, b = model("large", 9.0), model("b", 4.0, alpha_s=1.0, max_batch=8)
    cluster = Cluster(Node((Gpu(4.0, kind="x"), Gpu(12.0, kind="y"))), (large, b))
    assert placed(AlpaServe(), cluster, [0.1, 7.9]) == [[[0, 1], [1, 0]]]
    assert placed(AlpaServe(), cluster, [9.0, 8.1]) == [[[0, 1], [1, 0]]]  # 12 - 9 < 4


def test_alpaserve_pins_its_placement_and_shares_requests_out() -> None:
    # One replica each at first. a comes 2.25 times a second and takes 0.6 s, so one replica cannot
    # serve it: a second is placed once the rate of ten minutes says so, 1 - exp(-t/600) > 1/1.35:
    # at the tick of 900. It has 525 waiting by then, and 3.33 - 2.25 a second to work them off. At
    # 1100 a's second replica comes before b (x > 0.833 in 2.25 x - 1.667 > 0.25 x): b moves.
    cluster = Cluster(
        Node((Gpu(8.0), Gpu(8.0))), (model("a", alpha_s=0.6), model("b", alpha_s=0.01))
    )
    at = np.arange(1.0, 2001.0, 0.4)
    which = (np.arange(len(at)) % 10 == 0).astype(np.int32)
    result = simulate(cluster, Workload(at, which, ("a", "b"), 2100.0), AlpaServe(tick_s=100.0))[0]
    assert result.counters["prewarms"] == 4 and result.counters["clipped"] == 0
    assert result.counters["evictions"] == 0
    latency_s = result.outcome.latency_s
    assert set(result.outcome.tier[at > 1500.0].tolist()) == {0}
    assert latency_s[at > 880.0][0] > 100.0 and latency_s[at > 1500.0].max() < 1.0


def autoscaled(**arguments: Any) -> tuple[HpaNodes, Any]:
    """Four cheap nodes of 8 GiB and two dear ones of 16; a model of 8 GiB."""
    cheap = Node((Gpu(8.0, price_usd_h=1.0, kind="cheap"),))
    dear = Node((Gpu(8.0, price_usd_h=3.0, kind="dear"),) * 2)
    cluster = Cluster((dear, dear, cheap, cheap, cheap, cheap), (model("a", 8.0),))
    assert cluster.kinds == ("dear", "cheap")
    policy = HpaNodes(**arguments)
    policy.reset(cluster, 1)
    empty = Workload(np.zeros(0), np.zeros(0, np.int32), ("a",), 1.0)
    return policy, Simulation([cluster], [empty]).snapshot()


def ask(policy: HpaNodes, snapshot: Any, nodes_up: list[int], **figures: int) -> list[int]:
    seen = {name: np.array([[v]], np.int32) for name, v in figures.items()}
    decision = policy.decide(replace(snapshot, nodes_up=np.array([nodes_up]), **seen))
    assert decision.nodes_wanted is not None
    wanted: list[int] = decision.nodes_wanted[0].tolist()
    return wanted


def test_nodes_come_at_once_cheapest_first_and_go_late() -> None:
    # 8 GiB an instance, target a half: 16 GiB each. Window of 2 looks beside the present one.
    policy, snapshot = autoscaled(target=0.5, window_s=30.0, tick_s=15.0)
    assert ask(policy, snapshot, [0, 1]) == [0, 1]  # nothing runs: the one that must stay
    assert ask(policy, snapshot, [0, 1], busy=1) == [0, 2]
    assert ask(policy, snapshot, [0, 2], busy=2, queued=1) == [1, 4]  # 48 = 4 x 8 + 16
    assert ask(policy, snapshot, [1, 4], busy=1, loading=1, queued=1) == [1, 4]  # still in sight
    assert ask(policy, snapshot, [1, 4], busy=1) == [1, 4]
    assert ask(policy, snapshot, [1, 4], busy=1) == [0, 4]  # 2 x 16 of two looks ago
    assert ask(policy, snapshot, [0, 4], busy=1) == [0, 2]
    assert ask(policy, snapshot, [0, 2], busy=9) == [2, 4]  # all there are


def test_a_small_difference_changes_nothing() -> None:
    policy, snapshot = autoscaled(target=0.55, window_s=0.0, tolerance=0.1)
    assert ask(policy, snapshot, [0, 2], busy=1) == [0, 2]  # 8 / 0.55 = 14.5 of 16
    assert ask(policy, snapshot, [0, 4], busy=2) == [0, 4]  # 29.1 of 32
    policy, snapshot = autoscaled(target=0.44, window_s=0.0, tolerance=0.1)
    assert ask(policy, snapshot, [0, 2], busy=1) == [0, 3]  # 18.2 of 16


def test_the_autoscaler_saves_idle_nodes_and_serves_every_request() -> None:
    # Ten minutes of load on up to 4 nodes, then silence: fixed nodes are paid to the end.
    gpu = Gpu(8.0, price_usd_h=3.6)
    cluster = Cluster(
        (Node((gpu,), boot_s=20.0),) * 4,
        (model("a", 8.0, runtime_s=2.0, alpha_s=1.0),),
        Objective(wait_usd_s=0.0, billing="node"),
    )
    at = np.sort(np.random.default_rng(3).uniform(0.0, 600.0, 1200))
    workload = Workload(at, np.zeros(1200, np.int32), ("a",), 3600.0)
    fixed = simulate(cluster, workload, FixedTtl(60.0))[0]
    scaled = simulate(cluster, workload, HpaNodes(window_s=60.0, ttl_s=60.0))[0]
    assert fixed.bill.node_s == pytest.approx(4 * 3600.0)
    assert scaled.counters["served"] == fixed.counters["served"] == 1200
    assert 3600.0 < scaled.bill.node_s < 3600.0 + 4 * 800.0
    assert scaled.bill.rent_usd == pytest.approx(scaled.bill.node_s * 0.001)


def test_arguments_out_of_range_are_refused_by_name() -> None:
    for name, value in (("target", 0.0), ("window_s", -1.0), ("tolerance", 1.0), ("ttl_s", -1.0),
                        ("tick_s", math.inf), ("min_nodes", -1)):  # fmt: skip
        with pytest.raises(SpecError, match=rf"policy.{name} = {value}"):
            HpaNodes(**{name: value})
    with pytest.raises(SpecError, match=r"policy.tick_s = 0.0"):
        AlpaServe(tick_s=0.0)
