"""Batches, their timers, and sharing of a GPU in time, against times worked out by hand.

Units: seconds.
"""

import math
from typing import Any

import numpy as np
import pytest
from by_hand import order, workload

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Rules, Service
from stoker.envs.workload.workload import Workload


def run(
    functions: list[Function], calls: list[tuple[float, int]], gpus: tuple[Gpu, ...] = (Gpu(40.0),),
    rules: Rules | None = None, service_s: list[float] | None = None, **orders: Any,
) -> Simulation:  # fmt: skip
    cluster = Cluster(Node(gpus), tuple(functions))
    sim = Simulation([cluster], [workload(cluster, calls, 1e4, service_s)], rules)
    order(sim, **orders)
    sim.run()
    return sim


def starts(sim: Simulation) -> list[float]:
    found: list[float] = sim.result().outcome.start_s.tolist()
    return found


def model(name: str = "a", **changes: Any) -> Function:
    standard: dict[str, Any] = {"runtime_s": 1.0, "alpha_s": 2.0}
    return Function(name, 1.0, 1.0, **{**standard, **changes})


def test_what_waits_for_a_load_runs_as_one_batch_of_alpha_plus_beta_a_request() -> None:
    sim = run([model(beta_s=0.5, max_batch=4)], [(0.0, 0), (0.2, 0), (0.4, 0)])
    assert starts(sim) == [1.0, 1.0, 1.0]
    assert sim.result().outcome.finish_s.tolist() == [4.5, 4.5, 4.5]  # 1 + 2 + 3 * 0.5


def test_a_batch_takes_what_was_measured_of_its_size_where_there_is_such_a_figure() -> None:
    measured = model(beta_s=0.5, max_batch=3, batch_s=(2.5, 6.0, 6.25))
    line = model("b", beta_s=0.5, max_batch=4)
    calls = [(0.0, 0), (0.2, 0), (0.4, 1), (0.6, 1), (20.0, 0), (40.0, 0), (40.0, 0), (40.0, 0)]
    sim = run([measured, line], calls)
    # Two of a: 1 + 6; two of b: 1.4 + 2 + 2 * 0.5; one of a in 2.5; one, and then two in 6.
    assert sim.result().outcome.finish_s.tolist() == [7.0, 7.0, 4.4, 4.4, 22.5, 42.5, 48.5, 48.5]


@pytest.mark.parametrize("times", [(1.0,), (1.0, 0.5), (1.0, math.inf), (-1.0, 1.0)])
def test_measured_batch_times_that_cannot_be_are_refused(times: tuple[float, ...]) -> None:
    with pytest.raises(SpecError, match=r"function\[a\]\.batch_s"):
        model(max_batch=2, batch_s=times)
    service = (Service("gpu", 1.0),)
    with pytest.raises(SpecError, match="services"):
        model(max_batch=2, batch_s=(1.0, 2.0), services=service)


def test_a_batch_takes_as_long_as_its_longest_request_where_requests_have_times_of_their_own() -> (
    None
):
    sim = run(
        [model(beta_s=0.5, max_batch=4)], [(0.0, 0), (0.2, 0), (0.4, 0)], service_s=[1.0, 7.0, 3.0]
    )
    assert sim.result().outcome.finish_s.tolist() == [9.0, 9.0, 9.0]  # 1 + 7 + 2 * 0.5


def test_requests_beyond_the_largest_batch_take_the_next_one() -> None:
    sim = run([model(max_batch=2)], [(0.0, 0), (0.1, 0), (0.2, 0)], max_instances=1)
    assert starts(sim) == [1.0, 1.0, 3.0]
    sim = run([model(max_batch=8)], [(0.0, 0), (0.1, 0), (0.2, 0)], max_instances=1, max_batch=1)
    assert starts(sim) == [1.0, 3.0, 5.0]


def test_slots_that_cannot_hold_the_queue_bring_another_instance() -> None:
    sim = run([model(max_batch=2)], [(0.0, 0), (0.1, 0), (0.2, 0)])
    assert starts(sim) == [1.0, 1.0, 1.2]
    assert sim.result().counters["loads_disk"] == 2


def test_an_instance_with_slots_serves_batches_side_by_side() -> None:
    sim = run([model(concurrency=2)], [(0.0, 0), (10.0, 0), (10.5, 0), (10.6, 0)])
    assert starts(sim) == [1.0, 10.0, 10.5, 11.6]  # the fourth brings an instance of its own


def test_of_two_instances_with_free_slots_the_one_used_last_is_taken() -> None:
    # Two instances of two slots; both idle at 20. The request at 20 takes one, 20.1 the same one.
    calls = [(0.0, 0), (0.0, 0), (0.0, 0), (20.0, 0), (20.1, 0)]
    sim = run([model(concurrency=2)], calls, rules=Rules(clone_choice="mru"))
    inst = sim.state.req[0]["inst"]
    assert sim.result().counters["loads_disk"] == 2
    assert inst[3] == inst[4]


def test_a_batch_waits_for_its_least_size() -> None:
    sim = run(
        [model(max_batch=4)],
        [(0.0, 0), (10.0, 0), (11.0, 0), (12.0, 0)],
        min_batch=3,
        batch_wait_s=5.0,
    )
    # Alone at 0: ready at 1, runs when it has waited 5. Then three by 12.
    assert starts(sim) == [5.0, 12.0, 12.0, 12.0]


def test_a_batch_that_stays_too_small_runs_when_its_head_has_waited_long_enough() -> None:
    sim = run([model(max_batch=4)], [(0.0, 0), (10.0, 0), (11.0, 0)], min_batch=3, batch_wait_s=4.0)
    assert starts(sim) == [4.0, 14.0, 14.0]


def test_a_least_batch_above_the_largest_does_not_hold_requests_back() -> None:
    sim = run(
        [model(max_batch=2)], [(0.0, 0), (10.0, 0), (11.0, 0)], min_batch=8, batch_wait_s=50.0
    )
    assert starts(sim) == [10.0, 10.0, 61.0]  # two are enough; the third waits its 50 s
    assert sim.result().counters["clipped"] == 1


def test_a_held_batch_whose_instance_has_gone_is_served_by_a_new_one() -> None:
    # Ready at 1, held for a second request, expired at 1.5; at 20 the wait is over: load again.
    sim = run([model(max_batch=4)], [(0.0, 0)], min_batch=2, batch_wait_s=20.0, keep_alive_s=0.5)
    assert starts(sim) == [21.0]
    assert sim.result().counters["loads_disk"] == 2


def test_orders_that_allow_a_first_instance_serve_what_waited_even_if_memory_frees_later() -> None:
    # b may not start until 5, when a holds all memory; a's batch ends at 8, b's load at 9.
    two = [model("a", alpha_s=7.0), model("b")]
    names = ("a", "b")
    workload = Workload(np.array([0.0, 2.0]), np.array([0, 1], np.int32), names, 100.0)
    sim = Simulation([Cluster(Node((Gpu(1.0),)), tuple(two))], [workload], Rules())
    sim.apply(Decision(max_instances=np.array([[5, 0]])))
    sim.run(5.0)
    sim.apply(Decision(max_instances=np.array([[5, 5]])))
    sim.run()
    assert starts(sim) == [1.0, 9.0]


def test_a_dropped_head_lets_the_next_request_become_the_head() -> None:
    workload = Workload(np.array([0.0, 0.1]), np.array([0, 0], np.int32), ("a",), 100.0)
    sim = Simulation([Cluster(Node((Gpu(1.0),)), (model(),))], [workload], Rules())
    sim.run(0.5)
    sim.apply(Decision(drop_head=np.array([[1]])))
    sim.run()
    assert sim.result().outcome.tier.tolist() == [2, 1]
    assert math.isnan(sim.result().outcome.latency_s[0])


def pair(sharing: str) -> tuple[list[Function], tuple[Gpu, ...]]:
    return [model("a"), model("b")], (Gpu(40.0, sharing=sharing),)


def test_a_parallel_gpu_runs_two_functions_at_once_and_an_exclusive_one_in_turn() -> None:
    calls = [(0.0, 0), (5.0, 1), (10.0, 0), (10.5, 1)]
    two, gpus = pair("parallel")
    assert starts(run(two, calls, gpus)) == [1.0, 6.0, 10.0, 10.5]
    two, gpus = pair("exclusive")
    assert starts(run(two, calls, gpus)) == [1.0, 6.0, 10.0, 12.0]


def test_a_backlog_of_one_function_does_not_keep_another_from_its_turn() -> None:
    two, gpus = pair("exclusive")
    calls = [(0.0, 0), (5.0, 1), (10.0, 0), (10.1, 0), (10.2, 0), (10.3, 0), (10.5, 1)]
    got = starts(run(two, calls, gpus, max_instances=1))
    assert got[2:6] == [10.0, 14.0, 16.0, 18.0]
    assert got[6] == 12.0


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_no_turn_on_an_exclusive_gpu_is_lost_whatever_the_slots(slots: int) -> None:
    three = [model(name, alpha_s=1.0, concurrency=slots) for name in "abc"]
    calls = [(0.0, 0), (0.0, 1), (0.0, 2)] + [(10.0 + 0.1 * k, k % 3) for k in range(20)]
    got = sorted(starts(run(three, calls, (Gpu(40.0, sharing="exclusive"),), max_instances=1)))
    assert got == pytest.approx([1.0, 2.0, 3.0] + [10.0 + k for k in range(20)])


def test_a_request_goes_to_the_idle_gpu_rather_than_queue_for_the_taken_one() -> None:
    # b's two instances lie on both exclusive GPUs; a runs on one of them from 20 to 22.
    gpus = (Gpu(2.0, sharing="exclusive"), Gpu(1.0, sharing="exclusive"))
    calls = [(0.0, 1), (0.0, 1), (10.0, 0), (20.0, 0), (20.5, 1)]
    sim = run([model("a"), model("b")], calls, gpus)
    assert starts(sim)[4] == 20.5


def test_a_request_with_an_instance_of_its_own_cannot_share_an_exclusive_gpu() -> None:
    rules = Rules(scale_out="per_request", overload="drop")
    with pytest.raises(SpecError, match=r"gpu\.sharing"):
        run([model()], [(0.0, 0)], (Gpu(4.0, sharing="exclusive"),), rules)
