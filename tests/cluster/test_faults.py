"""Nodes lost, slow links, noise and late telemetry, against sequences worked out by hand.

Units: seconds, GiB.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import by_hand
import numpy as np
import pytest
from by_hand import order

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import FaultRates, Faults, NodeLoss, SlowLink, draw
from stoker.envs.cluster.outcome import Result
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Objective, Rules

INF = math.inf
WARM, COLD, HOST, FAILED, REMOTE = 0, 1, 3, 4, 6


def model(name: str = "a", gib: float = 4.0, **changes: Any) -> Function:
    """1 s of runtime and whatever its links take."""
    return Function(name, gib, gib, runtime_s=1.0, **changes)


def nodes(count: int = 2, gib: float = 4.0, **changes: Any) -> tuple[Node, ...]:
    return (Node((Gpu(gib, price_usd_h=3.6),), **changes),) * count


def start(
    cluster: Cluster,
    calls: list[tuple[float, int]],
    faults: Faults,
    *,
    until_s: float = 100.0,
    **rules: Any,
) -> Simulation:
    return by_hand.start(cluster, calls, until_s=until_s, faults=faults, **rules)


def ended(sim: Simulation) -> Result:
    sim.run()
    return sim.result()


def starts(sim: Simulation) -> list[float]:
    found: list[float] = ended(sim).outcome.start_s.tolist()
    return found


def test_a_failure_takes_the_batch_and_it_is_tried_again_elsewhere() -> None:
    # Alone on node 0 from 1 on, 10 s each: 0 and 1 are in one batch of two, 2 queues. Node 0 fails
    # at 5: all three go to node 1, where two are served from 6 to 16 and the last one then. It
    # comes back at 25; the call at 30 finds node 1 warm.
    a = model(alpha_s=10.0, max_batch=2)
    sim = start(Cluster(nodes(), (a,)), [(0.0, 0), (0.5, 0), (4.0, 0), (30.0, 0)],
                Faults((NodeLoss(5.0, 0, 20.0),)), placement="first_fit")  # fmt: skip
    order(sim, max_instances=1)
    result = ended(sim)
    assert result.outcome.start_s.tolist() == [6.0, 6.0, 16.0, 30.0]
    assert result.outcome.tier.tolist() == [COLD, COLD, COLD, WARM]
    assert result.counters["retries"] == 2 and result.counters["failed"] == 0
    assert result.counters["served"] == 4 and result.wait_s == 6.0 + 5.5 + 12.0
    bill = result.bill
    assert bill.node_s == pytest.approx(200.0 - 20.0)
    # node 0: loads 1 s, works 4 s, then off; node 1: loads 1 s, works 30 s, then idles but for 10 s
    assert bill.gpu_loading_s == 2.0 and bill.gpu_busy_s == 4.0 + 30.0
    assert bill.gpu_off_s == pytest.approx(95.0 + 5.0)
    assert bill.gpu_busy_s + bill.gpu_loading_s + bill.gpu_idle_s + bill.gpu_off_s == 200.0


def test_without_retry_what_was_in_service_fails_and_costs_a_refusal() -> None:
    a, goal = model(alpha_s=10.0), Objective(wait_usd_s=1.0, drop_usd=7.0)
    sim = start(Cluster(nodes(1), (a,), goal), [(0.0, 0), (2.0, 0)],
                Faults((NodeLoss(5.0, 0, 20.0),), retry=False))  # fmt: skip
    order(sim, max_instances=1)
    result = ended(sim)
    assert result.outcome.tier.tolist() == [FAILED, COLD]
    assert result.outcome.start_s.tolist() == [1.0, 26.0]
    assert result.outcome.finish_s.tolist() == [5.0, 36.0]
    assert result.counters["failed"] == 1 and result.counters["retries"] == 0
    assert result.bill.drop_usd == 7.0 and result.bill.wait_usd == 1.0 + 24.0
    assert np.isnan(result.outcome.latency_s[0]) and result.summary()["failed"] == 1.0


def test_where_nobody_queues_even_a_request_that_waits_for_its_own_load_fails() -> None:
    a = model(alpha_s=10.0)
    sim = start(Cluster(nodes(1, 8.0), (a,)), [(0.0, 0), (4.5, 0), (40.0, 0)],
                Faults((NodeLoss(5.0, 0, 20.0),)), scale_out="per_request",
                overload="drop")  # fmt: skip
    assert ended(sim).outcome.tier.tolist() == [FAILED, FAILED, COLD]


def test_a_lost_load_begins_again_and_the_node_boots_after_its_repair() -> None:
    # The load of 4 s over the disk began at 1 and is lost at 3. Repaired at 13, booted at 16.
    node = nodes(1, disk=Link(1.0), boot_s=3.0)
    sim = start(Cluster(node, (model(),)), [(0.0, 0)], Faults((NodeLoss(3.0, 0, 10.0),)))
    sim.run(15.9)
    assert sim.state.node[0]["state"].tolist() == [3]
    assert starts(sim) == [16.0 + 1.0 + 4.0]
    assert sim.result().bill.node_s == pytest.approx(100.0 - 10.0)
    assert sim.result().counters["loads_disk"] == 2


@pytest.mark.parametrize("discipline", ["fair", "fifo"])
def test_loads_side_by_side_and_in_line_are_all_lost(discipline: str) -> None:
    # Two models on one node share 1 GiB/s (or take turns); both are gone at 4 and begin anew at 6:
    # together until 15 (one after the other: 11 and 15).
    node = Node((Gpu(8.0),), disk=Link(1.0, discipline))
    sim = start(Cluster(node, (model("a"), model("b"))), [(0.0, 0), (0.0, 1)],
                Faults((NodeLoss(4.0, 0, 2.0),)))  # fmt: skip
    assert starts(sim) == ([15.0, 15.0] if discipline == "fair" else [11.0, 15.0])


def test_host_copies_and_limited_disks_are_lost_stores_are_not() -> None:
    # From the store 8 s (network 4, disk 2, PCIe 2); parked on the host at 10, it would be back in
    # 3 s. Node 0 is lost at 20 for a second.
    node = Node((Gpu(4.0),), 8.0, disk=Link(2.0), pcie=Link(2.0), disk_gib=8.0, network=Link(1.0))
    calls = [(0.0, 0), (30.0, 0)]
    for faults, tier, at in (
        (Faults(), HOST, 33.0),
        (Faults((NodeLoss(20.0, 0, 1.0),)), REMOTE, 39.0),
    ):
        sim = start(Cluster(node, (model(),)), calls, faults)
        order(sim, keep_alive_s=1.0, host_keep_alive_s=INF)
        result = ended(sim)
        assert result.outcome.tier.tolist() == [REMOTE, tier]
        assert result.outcome.start_s.tolist() == [9.0, at]


def test_an_instance_over_two_gpus_is_lost_on_both() -> None:
    node = Node((Gpu(4.0),) * 2, pcie=Link(2.0))
    a = model(gib=8.0, gpus=2, alpha_s=10.0)
    for t, again in ((2.0, 20.0), (7.0, 20.0)):  # while it loads (1 + 2 s), while it works
        faults = Faults((NodeLoss(t, 0, 20.0 - t),))
        sim = start(Cluster(node, (a,)), [(0.0, 0)], faults)
        result = ended(sim)
        assert result.outcome.start_s.tolist() == [again + 3.0]
        bill = result.bill
        assert bill.gpu_loading_s == 2 * (3.0 + min(t, 3.0))
        assert bill.gpu_busy_s == 2 * (10.0 + max(t - 3.0, 0.0))


def test_an_exclusive_gpu_is_free_again_after_its_node_was_lost() -> None:
    # a works, b (loaded too) waits for the GPU; both are lost at 5 and start again at 8.
    node = Node((Gpu(8.0, sharing="exclusive"),))
    a, b = model("a", alpha_s=10.0), model("b", alpha_s=10.0)
    sim = start(Cluster(node, (a, b)), [(0.0, 0), (0.0, 1)], Faults((NodeLoss(5.0, 0, 2.0),)))
    assert starts(sim) == [8.0, 18.0]
    assert sim.result().counters["retries"] == 1


def test_batches_that_slow_each_other_are_lost_too() -> None:
    # Two models share the GPU's time from 1 on, 10 s of work each. Lost at 5, back at 8, both go
    # on from 9: done at 29. Were the old timers to count, they would be done at 21.
    node = Node((Gpu(8.0, sharing="processor"),))
    a, b = model("a", alpha_s=10.0), model("b", alpha_s=10.0)
    sim = start(Cluster(node, (a, b)), [(0.0, 0), (0.0, 1)], Faults((NodeLoss(5.0, 0, 3.0),)))
    result = ended(sim)
    assert result.outcome.finish_s.tolist() == [29.0, 29.0]
    assert result.counters["retries"] == 2


def test_a_preempted_node_finishes_what_it_can_within_its_grace() -> None:
    # Both nodes work from 1 to 11. Node 1 is announced to go at 4: with 10 s of grace its batch
    # ends in time, and it is off from 11 until 14 + 6; with 5 s the batch is lost at 9, and node 0
    # takes it up at 11.
    a = model(alpha_s=10.0)
    calls = [(0.0, 0), (0.0, 0)]
    whole = start(Cluster(nodes(), (a,)), calls, Faults((NodeLoss(4.0, 1, 6.0, 10.0),)))
    whole.run(5.0)
    assert whole.state.node[0]["state"].tolist() == [0, 1]
    assert whole.snapshot().nodes_up.tolist() == [[1]]
    result = ended(whole)
    assert result.outcome.finish_s.tolist() == [11.0, 11.0] and result.counters["retries"] == 0
    assert result.bill.node_s == pytest.approx(200.0 - 9.0)
    cut = start(Cluster(nodes(), (a,)), calls, Faults((NodeLoss(4.0, 1, 6.0, 5.0),)))
    result = ended(cut)
    assert sorted(result.outcome.start_s.tolist()) == [1.0, 11.0]
    assert result.counters["retries"] == 1
    assert result.bill.node_s == pytest.approx(200.0 - 6.0)


def test_an_order_is_filled_by_nodes_that_are_to_be_had() -> None:
    # One of three is wanted: node 0. It fails at 10, node 1 is wanted at the next order; repaired
    # at 20 node 0 does not displace it.
    sim = start(Cluster(nodes(3), (model(),)), [], Faults((NodeLoss(10.0, 0, 10.0),)))
    found = []
    for t in (0.0, 15.0, 30.0):
        sim.run(t)
        sim.apply(Decision(nodes_wanted=np.array([[1]])))
        found.append(sim.state.node[0]["wanted"].tolist())
    assert found == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert sim.state.node[0]["state"].tolist() == [2, 0, 2]


def test_overlapping_losses_last_until_the_last_has_ended() -> None:
    # Out from 10 to 30 and, by a preemption announced before the failure, from 15 to 20.
    losses = (NodeLoss(10.0, 0, 20.0), NodeLoss(9.0, 0, 5.0, 6.0))
    sim = start(Cluster(nodes(1), (model(),)), [(8.0, 0), (12.0, 0)], Faults(losses))
    assert starts(sim) == [9.0, 31.0]


def test_an_episode_is_drawn_from_its_generator_alone() -> None:
    cluster = Cluster(nodes(3), (model(),))
    rates = FaultRates(100.0, 50.0, 300.0, slow_every_s=80.0, load_sigma=0.2,
                       telemetry_delay_s=(0.0, 9.0))  # fmt: skip
    a, b, c = (draw(np.random.default_rng(s), cluster, 1e4, rates) for s in (1, 1, 2))
    assert a == b != c and a.seed != c.seed and 0.0 < a.telemetry_delay_s < 9.0
    assert draw(np.random.default_rng(1), cluster, 1e4, FaultRates()).losses == ()
    assert {s.link for s in a.slow} == {"disk", "pcie", "network"}
    assert all(0.25 <= s.factor <= 0.75 for s in a.slow)


def test_nodes_are_up_as_often_as_their_failures_and_repairs_say() -> None:
    # MTBF / (MTBF + MTTR) = 100 / 120; 250 cycles in 30,000 s on each of ten nodes: 2 % is wide.
    cluster = Cluster(nodes(10), (model(),))
    rates = FaultRates(failure_every_s=100.0, repair_s=20.0)
    faults = draw(np.random.default_rng(5), cluster, 3e4, rates)
    result = ended(start(cluster, [], faults, until_s=3e4))
    assert result.bill.node_s / 3e5 == pytest.approx(100.0 / 120.0, rel=0.02)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: NodeLoss(-1.0, 0), "loss.t_s"),
        (lambda: NodeLoss(0.0, -1), "loss.node"),
        (lambda: NodeLoss(0.0, 0, -1.0), "loss.away_s"),
        (lambda: NodeLoss(0.0, 0, 1.0, INF), "loss.grace_s"),
        (lambda: SlowLink(0.0, 0, "usb", 0.5, 1.0), "slow.link"),
        (lambda: SlowLink(0.0, 0, "disk", 0.0, 1.0), "slow.factor"),
        (lambda: Faults(load_factors=(2.0, 1.0)), "faults.load_factors"),
        (lambda: Faults(service_factors=(0.0,)), "faults.service_factors"),
        (lambda: Faults(telemetry_loss=1.0), "faults.telemetry_loss"),
        (lambda: FaultRates(failure_every_s=0.0), "rates.failure_every_s"),
        (lambda: FaultRates(slow_factor=(0.5, 2.0)), "rates.slow_factor"),
        (lambda: FaultRates(slow_links=("usb",)), "rates.slow_links"),
        (lambda: start(Cluster(nodes(), (model(),)), [], Faults((NodeLoss(1.0, 2),))),
         "faults.node"),
    ],
)  # fmt: skip
def test_bad_values_are_named(make: Any, field: str) -> None:
    with pytest.raises(SpecError) as error:
        make()
    assert error.value.field == field


def test_a_row_of_faults_without_any_changes_nothing() -> None:
    cluster = Cluster(nodes(2, disk=Link(1.0)), (model(alpha_s=2.0),))
    calls = [(0.7 * k, 0) for k in range(60)]
    plain = start(cluster, calls, Faults())
    bare = Simulation([cluster], plain.state.workloads, Rules())
    one, other = ended(plain), ended(bare)
    assert replace(one, outcome=other.outcome) == other
    assert np.array_equal(one.outcome.finish_s, other.outcome.finish_s)


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text()
    exec(page.split("```python")[1].split("```")[0], {})
    lines = capsys.readouterr().out.splitlines()
    up, retried, _ = (float(x) for x in lines[0].split())
    assert (up, retried) == (7200.0, 0.0)
    # 300 s of node 0; 900 s of node 1, and its grace once nothing is left there
    assert 7200.0 - 300.0 - 930.0 <= float(lines[1].split()[0]) <= 7200.0 - 300.0 - 900.0
