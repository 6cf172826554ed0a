"""A delayed warm start against a cold start (CIDRE), by times worked out by hand.

Start-up takes 1 s, a batch 2 s, unless a test says otherwise.  Units: seconds, GiB.
"""

import numpy as np
import pytest
from test_batching import model, run, starts

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Gpu, Link, Node, Rules
from stoker.envs.workload.workload import Workload

WEIGH = Rules(scale_out="wait_vs_cold")


def loads(sim: Simulation) -> int:
    return sim.result().counters["loads_disk"]


def test_a_request_waits_for_a_slot_that_is_free_before_a_new_instance_is_ready() -> None:
    # The first runs from 1 to 3. At 2.5 a slot is 0.5 s away, a cold start 1 s.
    sim = run([model()], [(0.0, 0), (2.5, 0)], rules=WEIGH)
    assert starts(sim) == [1.0, 3.0]
    assert loads(sim) == 1
    assert sim.result().outcome.tier.tolist() == [1, 0]  # the delayed start is a warm one


def test_a_request_starts_an_instance_that_is_ready_before_a_slot_is_free() -> None:
    # At 1.5 a slot is 1.5 s away, a cold start 1 s.
    sim = run([model()], [(0.0, 0), (1.5, 0)], rules=WEIGH)
    assert starts(sim) == [1.0, 2.5]
    assert loads(sim) == 2


def test_the_queue_ahead_counts() -> None:
    # At 2.2 the slot is free at 3. At 2.3 that slot is spoken for until 5: a cold start, by 3.3.
    sim = run([model()], [(0.0, 0), (2.2, 0), (2.3, 0)], rules=WEIGH)
    assert starts(sim) == [1.0, 3.0, pytest.approx(3.3)]
    assert loads(sim) == 2


def test_what_waits_is_served_by_whichever_is_ready_first() -> None:
    # At 1.5 a second instance is started, ready at 2.5; at 1.6 a third, for 2.6.
    sim = run([model()], [(0.0, 0), (1.5, 0), (1.6, 0)], rules=WEIGH)
    assert starts(sim) == [1.0, 2.5, pytest.approx(2.6)]
    # With room for two the third waits for the first slot: the first instance's, at 3.
    sim = run([model()], [(0.0, 0), (1.5, 0), (1.6, 0)], (Gpu(2.0),), rules=WEIGH)
    assert starts(sim) == [1.0, 2.5, 3.0]


def test_a_place_in_the_batch_of_a_loading_instance_is_a_slot() -> None:
    calls = [(0.0, 0), (0.5, 0)]
    assert starts(run([model(max_batch=2)], calls, rules=WEIGH)) == [1.0, 1.0]
    # Without batches the loading instance is free again at 3; another is ready at 1.5.
    assert starts(run([model()], calls, rules=WEIGH)) == [1.0, 1.5]


def test_of_several_batches_in_service_the_mean_end_counts() -> None:
    # Two slots, ends at 4 and 6: 5 on average. At 3.5 that is too late for a start-up of 1 s.
    two_slots = [model(concurrency=2, alpha_s=3.0)]
    sim = run(two_slots, [(0.0, 0), (3.0, 0), (3.5, 0)], rules=WEIGH)
    assert starts(sim) == [1.0, 3.0, 4.0]
    assert loads(sim) == 2
    sim = run(two_slots, [(0.0, 0), (3.0, 0), (3.9, 0)], rules=WEIGH)
    assert loads(sim) == 2
    sim = run(two_slots, [(0.0, 0), (2.0, 0), (3.6, 0)], rules=WEIGH)  # 4.5: before 4.6
    assert starts(sim) == [1.0, 2.0, 4.0]
    assert loads(sim) == 1


def test_where_requests_have_service_times_of_their_own_the_mean_so_far_is_expected() -> None:
    # The first takes 4 s, until 5; the next begins at 10 and is expected to end at 14.
    service = [4.0, 4.0, 4.0]
    late = run([model()], [(0.0, 0), (10.0, 0), (13.5, 0)], rules=WEIGH, service_s=service)
    assert starts(late) == [1.0, 10.0, 14.0]
    early = run([model()], [(0.0, 0), (10.0, 0), (12.5, 0)], rules=WEIGH, service_s=service)
    assert starts(early) == [1.0, 10.0, 13.5]


def test_before_anything_was_seen_the_specs_service_time_is_expected() -> None:
    # alpha = 2 promises an end at 3; in truth it is 5.
    sim = run([model()], [(0.0, 0), (2.5, 0)], rules=WEIGH, service_s=[4.0, 4.0])
    assert starts(sim) == [1.0, 5.0]


def test_a_copy_in_host_memory_makes_for_a_short_cold_start() -> None:
    # From disk 1 + 4 s, from the host 1 s: at 20 ready by 21, in service until 23. At 20.5 another
    # start from the host is ready by 21.5; from disk it would take until 25.5.
    arrival = np.array([0.0, 20.0, 20.5])
    workload = Workload(arrival, np.zeros(3, np.int32), ("a",), 1e4)
    node = Node((Gpu(2.0),), host_gib=4.0, disk=Link(0.25))
    sim = Simulation([Cluster(node, (model(),))], [workload], WEIGH)
    orders = Decision(keep_alive_s=np.array([[1.0]]), host_keep_alive_s=np.array([[100.0]]))
    sim.apply(orders)
    sim.run()
    assert starts(sim) == [5.0, 21.0, 21.5]


def test_without_memory_that_can_be_made_free_a_request_waits() -> None:
    sim = run([model()], [(0.0, 0), (1.5, 0)], (Gpu(1.0),), rules=WEIGH)
    assert starts(sim) == [1.0, 3.0]
    # b is idle from 3 on: it makes room at 11.5 for a's second instance.
    two = [model("a"), model("b")]
    calls = [(0.0, 1), (10.0, 0), (11.5, 0)]
    sim = run(two, calls, (Gpu(2.0),), rules=WEIGH)
    assert starts(sim) == [1.0, 11.0, 12.5]
    assert sim.result().counters["evictions"] == 1


def test_the_estimate_needs_instances_that_do_not_slow_each_other() -> None:
    with pytest.raises(SpecError, match=r"gpu\.sharing"):
        run([model()], [(0.0, 0)], (Gpu(4.0, sharing="exclusive"),), WEIGH)
