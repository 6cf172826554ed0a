"""GPUs shared in space by fractions, against times by hand.

Units: seconds, GiB.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_gpu_sharing import AT_ONCE, ends, model, run

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Rules
from stoker.envs.workload.workload import Workload


def part(name: str, fraction: float, **changes: Any) -> Function:
    return model(name, gpu_fraction=fraction, **changes)


def test_fractions_that_add_up_to_one_fit_and_a_third_half_waits() -> None:
    three = [part(name, 0.5, runtime_s=1.0) for name in "abc"]
    sim = run(three, [(0.0, 0), (0.0, 1), (0.5, 2)], (Gpu(80.0, sharing="spatial"),))
    # c takes the place of a (least recently used), idle at 3, and is ready at 4.
    assert sim.result().outcome.start_s.tolist() == [1.0, 1.0, 4.0]
    assert sim.result().counters["evictions"] == 1


def test_ten_tenths_fit_and_an_eleventh_is_refused() -> None:
    functions = [part(f"f{k}", 0.1) for k in range(11)]
    calls = [(0.0, k) for k in range(11)]
    sim = run(functions, calls, (Gpu(80.0, sharing="spatial"),), AT_ONCE)
    assert sim.result().outcome.tier.tolist() == [1] * 10 + [2]
    assert sim.result().counters["evictions"] == 0  # all of them work


def test_a_newcomer_goes_where_its_fraction_is_free_though_another_gpu_has_more_memory() -> None:
    gpus = (Gpu(80.0, sharing="spatial"), Gpu(8.0, sharing="spatial"))
    sim = run([part("a", 0.7), part("b", 0.7)], [(0.0, 0), (9.0, 1), (20.0, 0), (20.0, 1)], gpus)
    assert sim.result().counters["loads_disk"] == 2
    assert sim.state.gpu[0]["resident"].tolist() == [1, 1]


def test_nothing_leaves_for_a_fraction_if_that_cannot_make_enough_room() -> None:
    # a (0.4) is idle, b (0.4) works until 10: c (0.7) needs both, and waits for b.
    shapes = (("a", 0.4, 1.0), ("b", 0.4, 10.0), ("c", 0.7, 1.0))
    three = [replace(part(name, share), alpha_s=s) for name, share, s in shapes]
    calls = [(0.0, 0), (0.0, 1), (2.0, 2), (3.0, 0)]
    sim = run(three, calls, (Gpu(80.0, sharing="spatial"),))
    assert sim.result().outcome.start_s.tolist() == [0.0, 0.0, 10.0, 3.0]
    assert sim.result().counters["evictions"] == 2


@pytest.mark.parametrize("eviction", ["lru", "greedy_dual", "landlord", "score", "hazard"])
def test_a_fraction_is_made_free_under_every_kind_of_eviction(eviction: str) -> None:
    functions = [part(f"f{k}", 0.25) for k in range(8)]
    calls = [(10.0 * k, k % 8) for k in range(40)]
    sim = run(functions, calls, (Gpu(80.0, sharing="spatial"),), Rules(eviction=eviction))
    assert np.all(np.isfinite(sim.result().outcome.start_s))
    assert sim.state.gpu[0, 0]["resident"] == 4


def test_a_prewarm_takes_a_free_fraction_only() -> None:
    gpu = Gpu(80.0, sharing="spatial")
    workload = Workload(np.zeros(1), np.zeros(1, np.int32), ("a", "b"), 99.0)
    cluster = Cluster(Node((gpu,)), (part("a", 0.6), part("b", 0.6)))
    sim = Simulation([cluster], [workload], Rules())
    sim.run(9.0)
    sim.apply(Decision(prewarm=np.array([[0, 1]])))
    assert sim.state.fn[0]["n"].tolist() == [1, 0]
    assert sim.result().counters["refused"] == 1


def test_service_on_a_fraction_is_what_the_spec_says_and_interference_none_adds_nothing() -> None:
    calls = [(0.0, 0), (0.5, 1)]
    assert ends(run([part("a", 0.5), part("b", 0.5)], calls, (Gpu(8.0, sharing="spatial"),))) == [
        2.0, 2.5,
    ]  # fmt: skip
