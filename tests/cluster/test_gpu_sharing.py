"""GPUs shared in time and in space, against times by hand, closed forms and a plain reference.

Units: seconds, GiB.
"""

import math
from typing import Any

import numpy as np
import pytest
from by_hand import order, workload
from gpu_checks import speeds
from hypothesis import given, settings
from hypothesis import strategies as st
from small_clusters import QUICK
from table_checks import check_row

from stoker.agents.build import build_cluster
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Rules
from stoker.envs.workload.workload import Workload

AT_ONCE = Rules(scale_out="per_request", overload="drop")
PROCESSOR = Gpu(math.inf, sharing="processor")
GPULET_2080TI = (
    0.11290838746224496, 0.7159598718755424, 0.35486591956022895, 0.0882038259888065,
    0.8953693917277343,
)  # fmt: skip
"""Fitted on one RTX 2080 Ti: casys-kaist/glet, resource/2080ti/INT_MODEL_CONSTANT.CSV."""


def model(name: str = "a", alpha_s: float = 2.0, **changes: Any) -> Function:
    return Function(name, 1.0, 1.0, alpha_s=alpha_s, **changes)


def run(
    functions: list[Function], calls: list[tuple[float, int]], gpus: tuple[Gpu, ...] = (PROCESSOR,),
    rules: Rules | None = None, service_s: list[float] | None = None, **orders: Any,
) -> Simulation:  # fmt: skip
    cluster = Cluster(Node(gpus), tuple(functions))
    sim = Simulation([cluster], [workload(cluster, calls, service_s=service_s)], rules)
    order(sim, **orders)
    sim.run()
    check_row(sim, 0)
    return sim


def ends(sim: Simulation) -> list[float]:
    found: list[float] = sim.result().outcome.finish_s.tolist()
    return found


def test_two_batches_at_once_run_at_half_speed_each() -> None:
    # b joins at 1: a has 1 s left and takes 2 more, to 3; b has 1 s left then, alone.
    assert ends(run([model("a"), model("b")], [(0.0, 0), (1.0, 1)])) == [3.0, 4.0]


def test_arrivals_in_the_middle_of_two_others() -> None:
    # 1: a 1 left, b 2. 1.5: a 0.75, b 1.75, c 2, a third each. a ends at 1.5 + 2.25 = 3.75;
    # b 1, c 1.25 left, half each: b ends at 5.75, c has 0.25 left and ends at 6.
    calls = [(0.0, 0), (1.0, 1), (1.5, 0)]
    assert ends(run([model("a"), model("b")], calls)) == [3.75, 5.75, 6.0]


def test_batches_of_one_instance_share_as_those_of_several_do() -> None:
    calls = [(0.0, 0), (1.0, 0)]
    sim = run([model(concurrency=2)], calls, max_instances=1)
    assert ends(sim) == [3.0, 4.0]
    assert sim.result().counters["loads_disk"] == 1


def test_only_batches_of_the_same_gpu_share_and_loads_do_not_count() -> None:
    gpus = (Gpu(1.0, sharing="processor"), Gpu(2.0, sharing="processor"))
    functions = [model("a", runtime_s=1.0), model("b", runtime_s=1.0), model("c", runtime_s=2.0)]
    calls = [(0.0, 0), (0.0, 1), (0.0, 2)]
    # a and c on the larger GPU, b on the other. a runs alone from 1 to 2, then beside c.
    assert ends(run(functions, calls, gpus)) == [4.0, 3.0, 5.0]


def test_equal_batches_end_at_the_same_instant() -> None:
    sim = run([model("a", 0.1), model("b", 0.1), model("c", 0.1)], [(0.7, 0), (0.7, 1), (0.7, 2)])
    found = ends(sim)
    assert found[0] == found[1] == found[2] == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("quantum_s", [0.0, 0.001])
@pytest.mark.parametrize(
    "shared",
    [
        {"sharing": "processor"},
        {"sharing": "spatial"},
        {"sharing": "spatial", "interference": "excess"},
        {"sharing": "spatial", "interference": "linear", "coefficients": (1, 1, 1, 1, 9)},
    ],
)
def test_one_batch_at_a_time_gives_the_bytes_of_a_parallel_gpu(
    shared: dict[str, Any], quantum_s: float
) -> None:
    rng = np.random.default_rng(5)
    calls = [(float(t), 0) for t in np.cumsum(rng.exponential(1.0, 300))]
    one = model(alpha_s=0.37, beta_s=0.11, max_batch=3, compute_util=1.0, memory_util=1.0)
    rules = Rules(time_quantum_s=quantum_s)

    def outcome(gpu: Gpu) -> bytes:
        sim = run([one], calls, (gpu,), rules, max_instances=1)
        return sim.result().outcome.finish_s.tobytes() + repr(sim.result().bill).encode()

    assert outcome(Gpu(4.0, 1.0, **shared)) == outcome(Gpu(4.0, 1.0))


def reference(
    gpu: Gpu, functions: list[Function], calls: list[tuple[float, int]], work_s: list[float]
) -> list[float]:
    """Finish times where every request begins at once: a loop over the next change of company."""
    now, todo = 0.0, sorted(range(len(calls)), key=lambda q: calls[q][0])
    left: dict[int, float] = {}
    finish = [math.nan] * len(calls)
    while todo or left:
        pace = dict(zip(left, speeds(gpu, [functions[calls[q][1]] for q in left]), strict=True))
        first = min(left, key=lambda q: left[q] / pace[q], default=None)
        due = math.inf if first is None else now + left[first] / pace[first]
        arrival = calls[todo[0]][0] if todo else math.inf
        step = min(due, arrival)
        for q in left:
            left[q] -= (step - now) * pace[q]
        now = step
        if due <= arrival:
            assert first is not None
            finish[first] = now
            del left[first]
        else:
            left[todo[0]] = work_s[todo[0]]
            todo.pop(0)
    return finish


FORMS = (
    PROCESSOR,
    Gpu(math.inf, sharing="spatial", interference="linear", coefficients=GPULET_2080TI),
    Gpu(math.inf, sharing="spatial", interference="excess"),
)


@given(
    st.sampled_from(FORMS),
    st.lists(
        st.tuples(st.floats(0.0, 9.0), st.integers(0, 2), st.floats(0.01, 3.0)),
        min_size=1, max_size=25,
    ),
)  # fmt: skip
@settings(QUICK, max_examples=100)
def test_every_end_is_that_of_a_plain_reference(
    gpu: Gpu, requests: list[tuple[float, int, float]]
) -> None:
    functions = [
        model("a", gpu_fraction=0.01, compute_util=0.9, memory_util=0.1),
        model("b", gpu_fraction=0.01, compute_util=0.2, memory_util=0.8),
        model("c", gpu_fraction=0.01, compute_util=0.5, memory_util=0.5),
    ]
    requests = sorted(requests)
    calls, work_s = [(t, f) for t, f, _ in requests], [s for _, _, s in requests]
    found = ends(run(functions, calls, (gpu,), AT_ONCE, work_s))
    assert found == pytest.approx(reference(gpu, functions, calls, work_s), rel=1e-9, abs=1e-9)


def poisson(rate_hz: float, n: int, seed: int) -> list[tuple[float, int]]:
    rng = np.random.default_rng(seed)
    return [(float(t), 0) for t in np.cumsum(rng.exponential(1.0 / rate_hz, n))]


def services(kind: str, n: int, seed: int) -> Any:
    """Work of mean 1 s: constant, exponential, or hyperexponential (squared cv 5)."""
    rng = np.random.default_rng(seed)
    if kind == "constant":
        return np.ones(n)
    if kind == "exponential":
        return rng.exponential(1.0, n)
    p = 0.5 * (1.0 + math.sqrt(4.0 / 6.0))  # balanced means
    return np.where(
        rng.random(n) < p, rng.exponential(0.5 / p, n), rng.exponential(0.5 / (1.0 - p), n)
    )


@pytest.mark.parametrize("load", [0.5, 0.7])
@pytest.mark.parametrize("kind", ["constant", "exponential", "hyperexponential"])
def test_sojourn_under_poisson_arrivals_is_that_of_m_g_1_ps(kind: str, load: float) -> None:
    """E[T] = E[S] / (1 - load), whatever the distribution (Kleinrock 1967; Sakata et al. 1971)."""
    n = 200_000
    work_s = services(kind, n, 1)
    calls = poisson(load, n, 2)
    sim = run([model()], calls, rules=AT_ONCE, service_s=work_s.tolist())
    outcome = sim.result().outcome
    mean = float(np.mean(outcome.finish_s - np.array([t for t, _ in calls])))
    assert mean == pytest.approx(work_s.mean() / (1.0 - load), rel=0.03)


def test_work_done_is_the_time_that_the_gpu_is_busy() -> None:
    n = 5000
    work_s = services("exponential", n, 3)
    sim = run([model()], poisson(0.8, n, 4), rules=AT_ONCE, service_s=work_s.tolist())
    assert sim.result().bill.gpu_busy_s == pytest.approx(work_s.sum(), rel=1e-9)


def test_many_batches_at_once_make_the_tables_grow() -> None:
    n = 3000
    calls = [(0.001 * k, 0) for k in range(n)]
    sim = run([model(alpha_s=1.0)], calls, rules=AT_ONCE)
    # all n run at once from 3 s on; the last ends when all the work is done
    assert max(ends(sim)) == pytest.approx(n * 1.0)
    assert sim.state.slowed.shape == sim.state.heap.shape and sim.state.heap.shape[1] > 1024


def test_rows_with_and_without_sharing_stand_side_by_side() -> None:
    two = (model("a"), model("b"))
    clusters = [Cluster(Node((gpu,)), two) for gpu in (Gpu(8.0), Gpu(8.0, sharing="processor"))]
    workload = Workload(np.array([0.0, 1.0]), np.array([0, 1], np.int32), ("a", "b"), 99.0)
    sim = Simulation(clusters * 2, [workload] * 4, Rules(), threads=2)
    sim.run()
    found = [sim.result(k).outcome.finish_s.tolist() for k in range(4)]
    assert found == [[2.0, 3.0], [3.0, 4.0]] * 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gpu(8.0, sharing="time"), r"gpu.sharing = 'time' .*processor \| spatial"),
        (lambda: Gpu(8.0, interference="excess"), r"gpu.interference = 'excess' .*none"),
        (
            lambda: Gpu(8.0, sharing="spatial", interference="linear"),
            r"gpu.coefficients = \(\) .*5 finite numbers",
        ),
        (
            lambda: Gpu(8.0, sharing="spatial", coefficients=(1.0,) * 5),
            r"gpu.coefficients = .*0 finite numbers",
        ),
        (lambda: model(gpu_fraction=0.0), r"function\[a\].gpu_fraction = 0.0 .*> 0, <= 1"),
        (lambda: model(compute_util=1.1), r"function\[a\].compute_util = 1.1 .*0..1"),
        (
            lambda: Cluster(Node((FORMS[2],)), (model(compute_util=0.5),)),
            r"function\[a\].memory_util = None .*interference=excess",
        ),
        (
            lambda: Cluster(Node((PROCESSOR, PROCESSOR)), (model(gpus=2),)),
            r"gpu.sharing = 'processor' .*parallel \(function\[a\] spans 2 GPUs\)",
        ),
        (
            lambda: LiveEngine(Cluster(Node((PROCESSOR,)), (model(),))),
            r"gpu.sharing = 'processor' .*parallel \| exclusive \(on a real backend\)",
        ),
        (
            lambda: run([model()], [(0.0, 0)], rules=Rules(scale_out="wait_vs_cold")),
            r"gpu.sharing = 'processor' .*wait_vs_cold",
        ),
        (
            lambda: run(
                [model(compute_util=1.0, memory_util=1.0)], [(0.0, 0)], (FORMS[2],),
                Rules(scale_out="wait_vs_cold"),
            ),
            r"gpu.interference = 'excess' .*wait_vs_cold",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


def test_a_config_names_the_sharing_of_a_gpu() -> None:
    node: dict[str, Any] = {
        "nodes": 1, "host_gib": 0.0, "host_price_usd_gib_h": 0.0, "pcie": None, "network": None,
        "loading": "sequential", "demotion": "instant", "disk_gib": math.inf, "boot_s": 0.0,
        "first_bin_s": 3.0, "objective": {},
        "gpus": [
            {"memory_gib": 8.0, "sharing": "processor"},
            {"memory_gib": 8.0, "sharing": "spatial", "interference": "linear",
             "coefficients": [0.1, 0.2, 0.3, 0.4, 1.0]},
        ],
    }  # fmt: skip
    scenario = {"disk": {}, "compress": 1.0, "profile": "p"}
    workload = Workload(np.zeros(0), np.zeros(0, np.int32), ("a",), 1.0)
    function = model(compute_util=0.5, memory_util=0.5)
    cluster = build_cluster(node, scenario, workload, (function,))
    assert [gpu.sharing for gpu in cluster.gpus] == ["processor", "spatial"]
    assert cluster.gpus[1].coefficients == (0.1, 0.2, 0.3, 0.4, 1.0)
