"""Rule `order`: who gets memory and who runs next, by times worked out by hand.

Start-up takes 1 s, a batch 2 s; a small GPU holds one model.  Units: seconds, GiB.
"""

import numpy as np
import pytest
from test_batching import model, run, starts

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Rules
from stoker.envs.workload.workload import Workload

SMALL = (Gpu(1.0),)
EXCLUSIVE = (Gpu(40.0, sharing="exclusive"),)
Calls = list[tuple[float, int]]


def order(name: str, max_wait_s: float = 60.0, required: float = 4.0) -> Rules:
    params = {"order_max_wait_s": max_wait_s, "order_required_requests": required}
    return Rules(order=name, params=params)


def three() -> list[Function]:
    return [model("a"), model("b", slo_s=100.0), model("c", slo_s=5.0)]


def test_memory_goes_to_the_first_in_line_or_to_the_earliest_deadline() -> None:
    calls = [(0.0, 0), (0.5, 1), (1.0, 2)]
    assert starts(run(three(), calls, SMALL, order("fcfs"))) == [1.0, 4.0, 7.0]
    assert starts(run(three(), calls, SMALL, order("edf"))) == [1.0, 7.0, 4.0]


def test_an_exclusive_gpu_goes_to_the_first_in_line_or_to_the_earliest_deadline() -> None:
    calls = [(0.0, 0), (5.0, 1), (10.0, 2), (20.0, 0), (20.1, 1), (20.2, 2)]
    assert starts(run(three(), calls, EXCLUSIVE, order("fcfs")))[3:] == [20.0, 22.0, 24.0]
    assert starts(run(three(), calls, EXCLUSIVE, order("edf")))[3:] == [20.0, 24.0, 22.0]


def test_without_deadlines_the_earliest_deadline_is_first_come_first_served() -> None:
    calls = [(0.0, 0), (0.5, 1), (1.0, 2)]
    assert starts(run([model(k) for k in "abc"], calls, SMALL, order("edf"))) == [1.0, 4.0, 7.0]


INTERLEAVED = [(0.0, 0), (0.1, 1), (0.2, 0), (0.3, 0), (0.4, 2), (0.5, 0), (0.6, 1), (0.7, 2)]


def served(calls: Calls, rules: Rules, gpus: tuple[Gpu, ...] = SMALL) -> str:
    """Functions in the order in which their requests started."""
    at = np.argsort(starts(run([model(k) for k in "abc"], calls, gpus, rules)), kind="stable")
    return "".join("abc"[calls[q][1]] for q in at)


def test_a_loaded_model_goes_on_with_its_queue_as_in_llama_swaps_example() -> None:
    # Issue 612 has A B A A C A B C, wants A A A A B B C and so on.
    assert served(INTERLEAVED, order("collation", 100.0)) == "aaaabbcc"
    assert served(INTERLEAVED, order("fcfs")) == "aaaabbcc"  # memory is never taken from a queue


def test_an_overdue_head_takes_the_memory_of_younger_ones() -> None:
    # a: 0, 0.1, 0.2 came before b at 0.5. b may wait 6 s: until 6.5. At 7 a's next is younger.
    calls = [(0.0, 0), (0.1, 0), (0.2, 0), (0.5, 1), (0.6, 0), (0.7, 0)]
    two = [model("a"), model("b")]
    assert starts(run(two, calls, SMALL, order("collation", 100.0))) == [1, 3, 5, 12, 7, 9]
    with_limit = [1, 3, 5, 8, 11, 13]
    assert starts(run(two, calls, SMALL, order("collation", 6.0))) == with_limit
    # Overdue at 3.5 already, but at 5 a's next, of 0.2, is older.
    assert starts(run(two, calls, SMALL, order("collation", 3.0))) == with_limit


def test_an_overdue_function_that_may_have_no_instance_takes_no_memory() -> None:
    two = [model("a"), model("b")]
    calls = [(0.0, 0), (0.5, 1), (0.6, 0), (0.7, 0)]
    limits = np.array([9, 0])
    got = starts(run(two, calls, SMALL, order("collation", 1.0), max_instances=limits))
    assert got[0::2] == [1.0, 3.0]
    assert got[3] == 5.0
    assert np.isnan(got[1])


def test_an_instance_with_several_batches_takes_no_more_while_somebody_is_overdue() -> None:
    # a from 1 to 5; b may wait until 2.5. fcfs: a's second at 3 runs beside the first, until 7.
    two = [model("a", concurrency=2, alpha_s=4.0), model("b")]
    calls = [(0.0, 0), (0.5, 1), (3.0, 0)]
    assert starts(run(two, calls, SMALL, order("fcfs"))) == [1.0, 8.0, 3.0]
    assert starts(run(two, calls, SMALL, order("collation", 2.0))) == [1.0, 6.0, 9.0]


def test_on_an_exclusive_gpu_the_function_that_ran_last_goes_on_until_others_are_overdue() -> None:
    two = [model("a"), model("b")]
    calls = [(0.0, 0), (5.0, 1), (10.0, 0), (10.1, 0), (10.15, 1), (10.2, 0), (10.3, 0)]

    def got(rules: Rules) -> list[float]:
        return starts(run(two, calls, EXCLUSIVE, rules, max_instances=1))[2:]

    assert got(order("fcfs")) == [10, 14, 12, 16, 18]
    assert got(order("collation", 100.0)) == [10, 12, 18, 14, 16]
    # b is overdue at 14.15. At 14 it is not yet; at 16 it goes before a's last, of 10.3.
    assert got(order("collation", 4.0)) == [10, 12, 16, 14, 18]


def test_a_model_is_swapped_in_for_enough_requests_or_for_one_that_has_waited_long() -> None:
    two = [model("a"), model("b")]
    rules = order("required_request_count", 20.0, 2.0)
    pair: Calls = [(0.0, 0), (10.0, 1), (12.0, 0), (15.0, 1)]
    assert starts(run(two, pair, SMALL, order("fcfs")))[1:3] == [11.0, 14.0]
    assert starts(run(two, pair, SMALL, rules)) == [1.0, 16.0, 12.0, 18.0]
    alone: Calls = [(0.0, 0), (10.0, 1), (12.0, 0)]
    assert starts(run(two, alone, SMALL, rules)) == [1.0, 31.0, 12.0]
    assert starts(run(two, alone, (Gpu(2.0),), rules)) == [1.0, 11.0, 12.0]  # nobody has to go


def test_who_is_held_back_holds_up_nobody() -> None:
    calls = [(0.0, 0), (10.0, 1), (11.0, 2), (11.0, 2)]
    rules = order("required_request_count", 30.0, 2.0)
    assert starts(run([model(k) for k in "abc"], calls, SMALL, rules)) == [1.0, 41.0, 12.0, 14.0]


def test_the_next_head_has_a_wait_of_its_own_when_the_first_is_dropped() -> None:
    calls = [(0.0, 0), (10.0, 1), (13.0, 1)]
    arrival = np.array([t for t, _ in calls])
    workload = Workload(arrival, np.array([0, 1, 1], np.int32), ("a", "b"), 1e4)
    cluster = Cluster(Node(SMALL), (model("a"), model("b")))
    rules = order("required_request_count", 20.0, 3.0)
    sim = Simulation([cluster], [workload], rules)
    sim.run(14.0)
    sim.apply(Decision(drop_head=np.array([[0, 1]])))
    sim.run()
    assert sim.result().outcome.tier.tolist() == [1, 2, 1]
    assert starts(sim)[2] == 34.0  # 13 + 20 + 1


@pytest.mark.parametrize("name", ["edf", "collation", "required_request_count"])
def test_requests_with_instances_of_their_own_stand_in_no_order(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        Rules(scale_out="per_request", overload="drop", order=name)
    assert caught.value.field == "rules.order"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"order": "required_request_count", "overload": "drop"}, "rules.overload"),
        ({"params": {"order_max_wait_s": -1.0}}, "rules.params.order_max_wait_s"),
        ({"params": {"order_required_requests": 0.0}}, "rules.params.order_required_requests"),
    ],
)
def test_orders_that_cannot_be_followed_name_the_field(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(SpecError) as caught:
        Rules(**changes)  # type: ignore[arg-type]
    assert caught.value.field == field
