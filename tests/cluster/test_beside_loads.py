"""Batches and loads that slow each other on a GPU, against times worked out by hand.

Units: seconds, GiB.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from by_hand import Calls, model, order, start, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from small_clusters import QUICK, Case, cases, faulty, rules
from table_checks import check_row
from test_invariants import drive, finish

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import Faults, SlowLink
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Gpu, Link, Node, Rules

NODES: dict[str, Callable[[Gpu], Node]] = {
    "fair": lambda gpu: Node((gpu,), disk=Link(1.0)),
    "fifo": lambda gpu: Node((gpu,), disk=Link(1.0, "fifo")),
    "pcie": lambda gpu: Node((gpu,), pcie=Link(1.0, "fifo")),
    "in one go": lambda gpu: Node(
        (gpu,), disk=Link(1.0, "fifo"), pcie=Link(9.0, "fifo"), loading="pipelined"
    ),
}
"""A GiB takes a second from the disk to the GPU."""
A, B = model("a", 1.0, alpha_s=2.0), model("b", 4.0, alpha_s=3.0)


def run(node: Node, calls: Calls, faults: Faults | None = None) -> list[tuple[float, float]]:
    """Start and finish of every request to a and b, neither of which is ever let go."""
    cluster = Cluster(node, (A, B))
    sim = Simulation([cluster], [workload(cluster, calls)], Rules(), faults=[faults])
    order(sim, keep_alive_s=math.inf)
    sim.run()
    check_row(sim, 0)
    outcome = sim.result().outcome
    return list(zip(outcome.start_s.tolist(), outcome.finish_s.tolist(), strict=True))


def near(*pairs: tuple[float, float]) -> list[object]:
    return [pytest.approx(pair) for pair in pairs]


@pytest.mark.parametrize("path", NODES)
def test_a_batch_is_slower_as_long_as_something_loads(path: str) -> None:
    node = NODES[path](Gpu(8.0, batch_beside_load=2.0))
    # a loads to 1 and has done 1 of 2 s when b begins to load at 2, so it ends at 4; b loads to 6.
    # At 5 the next a does 0.5 of its 2 s until 6, the rest in its own time.
    calls = [(0.0, 0), (2.0, 1), (5.0, 0)]
    assert run(node, calls) == near((1.0, 4.0), (6.0, 9.0), (5.0, 7.5))


@pytest.mark.parametrize("path", NODES)
def test_a_load_is_slower_as_long_as_a_batch_runs(path: str) -> None:
    node = NODES[path](Gpu(8.0, load_beside_batch=2.0))
    # b moves 0.5 of its 4 GiB beside a's batch from 2 to 3, then 2 alone, then 1 from 5 to 7.
    calls = [(0.0, 0), (2.0, 1), (5.0, 0)]
    assert run(node, calls) == near((1.0, 3.0), (7.5, 10.5), (5.0, 7.0))


@pytest.mark.parametrize("path", NODES)
def test_each_slows_the_other(path: str) -> None:
    node = NODES[path](Gpu(8.0, batch_beside_load=1.5, load_beside_batch=2.0))
    # a's second second takes from 2 to 3.5, in which b moves 0.75 of its 4 GiB.
    assert run(node, [(0.0, 0), (2.0, 1)]) == near((1.0, 3.5), (6.75, 9.75))


def test_a_load_that_waits_in_line_is_not_moved_any_slower() -> None:
    # Both want the disk at 0: a has it to 1, b from then on, beside a's batch to 1 + 4: it has
    # moved 2 of 4 GiB by then.
    node = NODES["fifo"](Gpu(8.0, batch_beside_load=2.0, load_beside_batch=2.0))
    assert run(node, [(0.0, 0), (0.0, 1)]) == near((1.0, 5.0), (7.0, 10.0))


def test_a_slow_link_is_slower_still_beside_a_batch() -> None:
    # From 2 on half the rate, beside a's batch a quarter: 0.25 by 3, 3.75 more take 7.5 s.
    node = NODES["fifo"](Gpu(8.0, load_beside_batch=2.0))
    slow = Faults(slow=(SlowLink(2.0, 0, "disk", 0.5, 1e6),))
    assert run(node, [(0.0, 0), (2.0, 1)], slow)[1] == pytest.approx((10.5, 13.5))


def test_other_gpus_do_not_feel_it() -> None:
    one = Gpu(1.0, batch_beside_load=2.0, load_beside_batch=2.0)
    node = Node((one, replace(one, memory_gib=8.0)), disk=Link(1.0), pcie=Link(4.0))
    cluster = Cluster(node, (A, B))
    sim = start(cluster, [(0.0, 0), (2.0, 1)], placement="best_fit")
    order(sim, keep_alive_s=math.inf)
    sim.run()
    # a: 1 s from disk, 0.25 over PCIe, 2 of service; b: 4, 1 and 3.
    assert sim.result().outcome.finish_s == pytest.approx([3.25, 10.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gpu(8.0, batch_beside_load=0.9), r"gpu.batch_beside_load = 0.9 .*>= 1"),
        (lambda: Gpu(8.0, load_beside_batch=math.inf), r"gpu.load_beside_batch = inf .*finite"),
        (
            lambda: start(
                Cluster(NODES["fair"](Gpu(8.0, load_beside_batch=2.0)), (A,)), [],
                scale_out="wait_vs_cold",
            ),
            r"gpu.batch_beside_load, load_beside_batch = \(1.0, 2.0\) .*wait_vs_cold",
        ),
        (
            lambda: Cluster(
                Node((Gpu(8.0), Gpu(8.0, batch_beside_load=2.0))), (replace(B, gpus=2),)
            ),
            r"gpu.batch_beside_load, .* = \(2.0, 1.0\) .*function\[b\] spans several GPUs",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


@given(
    st.one_of(cases(spans=False), faulty(spans=False)), rules(("target_concurrency",)),
    st.sampled_from([1.0, 1.3, 4.0]), st.sampled_from([1.0, 1.7]),
)  # fmt: skip
@settings(QUICK, max_examples=60)
def test_the_books_balance_and_every_request_is_answered(
    case: Case, chosen: Rules, batch: float, load: float
) -> None:
    nodes = tuple(
        replace(node, gpus=tuple(
            replace(gpu, batch_beside_load=batch, load_beside_batch=load) for gpu in node.gpus
        ))
        for node in case.cluster.all_nodes
    )  # fmt: skip
    finish(drive(replace(case, cluster=replace(case.cluster, nodes=nodes)), chosen))
