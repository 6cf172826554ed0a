"""Lent processes (Pagurus) in the engine, by hand-worked times.

The instances are those of test_layers.py.  Units: seconds, GiB, GiB/s.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from by_hand import order
from test_layers import counters, model, node
from test_mechanisms import start, times

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function
from stoker.envs.cluster.startup import pagurus
from stoker.envs.cluster.targets import Targets
from stoker.envs.workload.workload import Workload

INF = math.inf


def family(**changes: Any) -> list[Function]:
    """a and c lend after 10 and 5 s of idleness, b takes 0.25 s to make a process its own."""
    lender = {"runtime": "r", "lend_after_s": 10.0}
    return [
        model("a", **lender),
        model("b", runtime="r", lent_s=0.25, **changes),
        model("c", **{**lender, "lend_after_s": 5.0}),
    ]


@pytest.mark.parametrize(("at_s", "start_s"), [(20.4, 9.5), (20.5, 4.75), (80.0, 4.75)])
def test_an_instance_is_lent_once_it_has_idled_long_enough(at_s: float, start_s: float) -> None:
    # a is idle from 10.5 and lends from 20.5. As Pagurus' closed form: rent plus its own part.
    parts = pagurus.Start(2.0, 3.0, 4.5, 0.25)
    assert start_s in (parts.cold_s, parts.lent_s)
    sim = start(node(2), family(), [(0.0, 0), (at_s, 1)])
    assert times(sim)[1] == pytest.approx(at_s + start_s)
    lent = start_s == parts.lent_s
    assert counters(sim) == (0, 0, int(lent))
    assert sim.state.fn[0]["n"].tolist() == [1 - lent, 1, 0]


def test_what_is_lent_leaves_its_device_and_is_not_parked() -> None:
    sim = start(node(2), family(), [(0.0, 0), (30.0, 1)])
    order(sim, runtime_keep_alive_s=INF, host_keep_alive_s=INF)
    sim.run(31.0)
    assert sim.state.fn[0]["n"].tolist() == [0, 1, 0]
    assert sim.state.fn[0]["held_parked"].tolist() == [0, 0, 0]
    assert sim.state.fn[0]["hosts"].tolist() == [1, 0, 0]  # its weights go where they always do
    assert sim.result().counters["evictions"] == 0


def test_the_one_that_has_idled_longest_is_lent() -> None:
    # a idle from 10.5, c from 30.5 (their disk is free each time).
    sim = start(node(3), family(), [(0.0, 0), (20.0, 2), (50.0, 1)])
    sim.run(51.0)
    assert sim.state.fn[0]["n"].tolist() == [0, 1, 1]


def test_a_busy_instance_is_never_lent() -> None:
    busy = family()
    busy[0] = replace(busy[0], alpha_s=500.0)
    sim = start(node(2), busy, [(0.0, 0), (50.0, 1)])
    assert times(sim)[1] == pytest.approx(59.5)
    assert counters(sim) == (0, 0, 0)


def test_an_instance_that_an_order_wants_is_not_lent() -> None:
    sim = start(node(2), family(), [(0.0, 0), (50.0, 1)])
    order(sim, prewarm=[1, 0, 0])
    assert times(sim)[1] == pytest.approx(59.5)


@pytest.mark.parametrize(
    "changes", [{"runtime": "s"}, {"lent_s": 5.0}, {"fork_s": 0.0, "lent_s": 6.0}]
)
def test_another_runtime_or_a_slow_change_of_hands_is_left_alone(changes: dict[str, Any]) -> None:
    some = family()
    some[1] = replace(some[1], **changes)
    sim = start(node(2), some, [(0.0, 0), (50.0, 1)])
    assert times(sim)[1] == pytest.approx(59.5)


def test_lending_stays_on_the_node() -> None:
    cluster = Cluster((node(), node()), tuple(family()))
    at = Workload(np.array([0.0, 50.0]), np.array([0, 1], np.int32), ("a", "b", "c"), 1e5)
    sim = Simulation([cluster], [at])
    assert times(sim) == pytest.approx([9.5, 59.5])


def test_a_parked_process_comes_before_a_lender_a_lender_before_a_sandbox() -> None:
    # c's process is parked and a's instance idle: b takes the process, in 4.5 s not 4.75. Then
    # again, with only c's sandbox: b takes a's process in 0.25 rather than start one in 3.
    for keep, sandbox, hit, start_s in ((INF, 0.0, (1, 0, 0), 4.5), (0.0, INF, (0, 0, 1), 4.75)):
        sim = start(node(3), family(), [(0.0, 0), (20.0, 2), (50.0, 1)])
        order(
            sim, keep_alive_s=[INF, INF, 0.0], runtime_keep_alive_s=[0.0, 0.0, keep],
            sandbox_keep_alive_s=[0.0, 0.0, sandbox],
        )  # fmt: skip
        assert times(sim)[2] == pytest.approx(50.0 + start_s)
        assert counters(sim) == hit


def test_an_instance_that_a_target_holds_is_not_lent() -> None:
    sim = start(node(2), family(), [(50.0, 1)])
    zero = np.zeros(1, int)
    sim.apply(Decision(targets=Targets(zero, zero, gpu=zero, min=zero + 1)))
    assert times(sim) == pytest.approx([59.5])
    assert counters(sim) == (0, 0, 0)


def test_the_live_engine_neither_parks_nor_lends_and_counts_the_clips() -> None:
    live = LiveEngine(Cluster(node(2), tuple(family())))
    live.apply(
        Decision(keep_alive_s=np.full((1, 3), INF), runtime_keep_alive_s=np.full((1, 3), 9.0))
    )
    live.arrive(0.0, 0)
    loads = live.effects()
    live.ready(9.5, loads[0].instance)  # type: ignore[union-attr]
    live.completed(10.5, 0)
    live.arrive(50.0, 1)
    result = live.result(51.0)
    assert result.counters["clipped"] == 3 and result.counters["lent"] == 0
