"""Live mode is the simulator with real durations: the same facts, the same outcome."""

import math
from dataclasses import replace

import numpy as np
import pytest
from fake_backend import FakeBackend
from hypothesis import given, settings
from small_clusters import AT_ONCE, ON_BACKEND, QUICK, Case, Orders, cases, rules
from table_checks import check_row

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.live_effects import Drop, Load, Reject, Run
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Rules
from stoker.envs.workload import Workload

END_S = 60.0


def unlinked(case: Case) -> Case:
    """The case without links to share, with times that do not coincide by their decimals."""
    nodes = tuple(
        replace(n, disk=Link(), pcie=Link(), nvlink=None, network=Link())
        for n in case.cluster.all_nodes
    )
    functions = tuple(
        replace(
            f, load_gib_s=math.inf, runtime_s=f.runtime_s + 0.0317 * (k + 1),
            alpha_s=f.alpha_s + 0.0113 * (k + 1), beta_s=f.beta_s * 1.0171, services=(),
            compression=1.0, overlap_s=0.0, fork_s=math.inf, family="", shared_gib=0.0,
            sandbox_s=0.0, runtime_gib=0.0, sandbox_gib=0.0, lend_after_s=math.inf,
        )
        for k, f in enumerate(case.cluster.functions)
    )  # fmt: skip
    w = case.workload
    spread = 1e-3 * (np.arange(len(w)) * 0.6180339887 % 1.0)
    moved = replace(w, arrival_s=np.sort(w.arrival_s + spread), horizon_s=1e4)
    return Case(
        replace(case.cluster, nodes=nodes, functions=functions), moved, case.seed, case.tick_s
    )


def diskful(case: Case) -> Case:
    """The case with everything on disk: a real load has one end, not one a leg."""
    nodes = tuple(replace(n, disk_gib=math.inf) for n in case.cluster.all_nodes)
    return replace(case, cluster=replace(case.cluster, nodes=nodes))


def as_decision(orders: dict[str, np.ndarray]) -> Decision:
    return Decision(**{name: value[None, :] for name, value in orders.items()})


def exclusive(case: Case) -> bool:
    return any(g.sharing == "exclusive" for g in case.cluster.gpus)


@given(cases(ON_BACKEND, spans=False), rules())
@settings(QUICK, max_examples=80)
def test_live_mode_gives_the_outcome_of_the_simulation(case: Case, chosen: Rules) -> None:
    if exclusive(case) and chosen.scale_out in AT_ONCE:
        return
    case, chosen = diskful(unlinked(case)), replace(chosen, time_quantum_s=0.0)
    sim = Simulation([case.cluster], [case.workload], chosen)
    real = FakeBackend(case.cluster, case.workload, chosen)
    mine, theirs = Orders(case, chosen, places=False), Orders(case, chosen, places=False)
    now = 0.0
    while now < END_S:
        sim.apply(as_decision(mine.next()))
        real.apply(as_decision(theirs.next()))
        now += 1.7
        sim.run(now)
        real.run(now)
    for end in (sim, real):
        end.apply(as_decision(mine.last()))
        end.run(5000.0)
    a, b = sim.result().outcome, real.engine.result(5000.0).outcome
    assert b.tier.tolist() == a.tier.tolist()
    assert b.start_s == pytest.approx(a.start_s, abs=1e-9, nan_ok=True)
    assert b.finish_s == pytest.approx(a.finish_s, abs=1e-9, nan_ok=True)
    counters = real.engine.result(5000.0).counters
    for name in (
        "evictions",
        "expiries",
        "loads_disk",
        "loads_host",
        "prewarms",
        "drops",
        "served",
    ):
        assert counters[name] == sim.result().counters[name], name
    bill, twin = sim.result().bill, real.engine.result(5000.0).bill
    assert twin.device_gib_s == pytest.approx(bill.device_gib_s, rel=1e-9)
    assert twin.host_gib_s == pytest.approx(bill.host_gib_s, rel=1e-9, abs=1e-6)


def one_in_five(rng: np.random.Generator) -> bool:
    return bool(rng.random() < 0.2)


@given(cases(ON_BACKEND, spans=False), rules())
@settings(QUICK, max_examples=80)
def test_no_request_stays_without_an_answer_when_loads_and_workers_fail(
    case: Case, chosen: Rules
) -> None:
    if exclusive(case) and chosen.scale_out in AT_ONCE:
        return
    case, chosen = unlinked(case), replace(chosen, time_quantum_s=0.0)
    real = FakeBackend(case.cluster, case.workload, chosen, one_in_five, case.seed)
    orders = Orders(case, chosen, places=False)
    now = 0.0
    while now < END_S:
        real.apply(as_decision(orders.next()))
        now += 1.7
        real.run(now)
        engine = real.engine
        check_row(engine._sim, 0, (len(real.ids), engine._requests.function))
    real.apply(as_decision(orders.last()))
    real.run(5000.0)
    result = real.engine.result(5000.0)
    tier = result.outcome.tier
    assert not np.any(tier == 255)
    assert np.all(np.isfinite(result.outcome.finish_s))
    told = {q for q, how in real.answered.items() if how == "failed"}
    assert told == set(np.flatnonzero(tier == 4).tolist())
    assert result.counters["failed"] == len(told)


def engine(n: int = 1, gib: float = 4.0, **changes: float) -> LiveEngine:
    standard = {"runtime_s": 1.0, "alpha_s": 1.0, "max_batch": 2, **changes}
    functions = tuple(Function(f"f{k}", 2.0, 2.0, **standard) for k in range(n))  # type: ignore[arg-type]
    return LiveEngine(Cluster(Node((Gpu(gib),), host_gib=8.0), functions), Rules(), capacity=2)


def test_a_failed_start_up_fails_what_waited_for_it_alone() -> None:
    live = engine()
    a, b = live.arrive(0.0, 0), live.arrive(0.1, 0)
    (load,) = live.effects()
    assert load == Load(load.instance, 0, 0, "disk")
    live.failed(0.5, load.instance)
    assert live.effects() == [Reject(a, True), Reject(b, True)]
    c = live.arrive(1.0, 0)
    (again,) = live.effects()
    live.ready(2.0, again.instance)
    assert live.effects() == [Run(again.instance, 0, 0, (c,))]


def test_a_worker_that_dies_fails_its_batch_and_what_waits_is_served_by_a_new_instance() -> None:
    live = engine()
    first = live.arrive(0.0, 0)
    (load,) = live.effects()
    live.ready(1.0, load.instance)
    later = live.arrive(1.5, 0)
    live.effects()
    live.failed(1.7, load.instance)
    orders = live.effects()
    assert Reject(first, True) in orders
    (again,) = [o for o in orders if isinstance(o, Load)]
    live.ready(2.7, again.instance)
    assert live.effects() == [Run(again.instance, 0, 0, (later,))]
    assert live.result(5.0).outcome.tier.tolist() == [4, 1]


def test_a_device_that_dies_is_empty_before_anything_is_planned_on_it() -> None:
    """4 GiB: one starts (1), one is idle (1), one runs (2), and a function of 2 waits."""
    sizes = (1.0, 1.0, 2.0, 2.0)
    functions = tuple(
        Function(f"f{k}", size, size, runtime_s=1.0, alpha_s=9.0) for k, size in enumerate(sizes)
    )
    live = LiveEngine(Cluster(Node((Gpu(4.0),), host_gib=0.0), functions), Rules())
    live.apply(Decision(keep_alive_s=np.full((1, 4), np.inf)))
    starting = live.arrive(0.0, 0)
    idle = live.arrive(0.0, 1)
    running = live.arrive(0.0, 2)
    loads = [order for order in live.effects() if isinstance(order, Load)]
    live.ready(1.0, loads[1].instance)
    live.ready(1.0, loads[2].instance)
    live.completed(1.5, idle)
    live.arrive(2.0, 3)
    assert [type(order) for order in live.effects()] == [Run, Run]
    live.failed(2.5, *(load.instance for load in loads))
    rejected, also, load = live.effects()
    assert (rejected, also) == (Reject(starting, True), Reject(running, True))
    assert isinstance(load, Load) and load.fn == 3, "no Drop of what went with the device"
    assert live.snapshot().free_gib.tolist() == [[2.0]]


def test_who_waits_beside_a_batch_that_dies_is_served_by_what_comes_next() -> None:
    live = engine(max_batch=1)
    running = live.arrive(0.0, 0)
    (ready,) = live.effects()
    live.ready(1.0, ready.instance)
    waiting = live.arrive(1.5, 0)
    _, starting = live.effects()
    assert isinstance(starting, Load)
    live.failed(1.7, ready.instance, starting.instance)
    rejected, again = live.effects()
    assert rejected == Reject(running, True) and isinstance(again, Load)
    live.ready(2.7, again.instance)
    assert live.effects() == [Run(again.instance, 0, 0, (waiting,))]


def test_what_is_lost_is_not_taken_down_by_a_timer_that_is_overdue() -> None:
    live = engine()
    live.apply(Decision(keep_alive_s=np.full((1, 1), 5.0), host_keep_alive_s=np.full((1, 1), 9.0)))
    head = live.arrive(0.0, 0)
    (load,) = live.effects()
    live.ready(1.0, load.instance)
    live.completed(2.0, head)
    live.effects()
    live.failed(8.0, load.instance)  # the keep-alive ended at 7
    live.advance(8.0)
    assert live.effects() == []
    seen = live.snapshot()
    assert (seen.free_gib.tolist(), seen.host_free_gib.tolist()) == ([[4.0]], [8.0])


def test_an_instance_may_fail_before_its_orders_were_fetched() -> None:
    live = engine()
    q = live.arrive(0.0, 0)
    (load,) = live.effects()
    live.ready(1.0, load.instance)
    live.failed(1.1, load.instance)  # the Run has not been read yet
    assert live.effects() == [Reject(q, True)]


def test_late_reports_about_an_instance_that_is_lost_are_ignored() -> None:
    live = engine()
    q = live.arrive(0.0, 0)
    (load,) = live.effects()
    live.ready(1.0, load.instance)
    live.effects()
    live.failed(1.1, load.instance)
    live.completed(1.2, q)
    live.ready(1.3, load.instance)
    live.failed(1.4, load.instance)
    result = live.result(2.0)
    assert result.outcome.tier.tolist() == [4]
    assert (result.counters["failed"], result.counters["served"]) == (1, 0)


def test_timers_that_are_due_fire_before_a_fact_that_is_reported_late() -> None:
    live = engine()
    live.apply(Decision(keep_alive_s=np.array([[1.0]])))
    q = live.arrive(0.0, 0)
    (load,) = live.effects()
    live.ready(1.0, load.instance)
    live.completed(2.0, q)
    live.effects()
    live.arrive(10.0, 0)  # nobody has called advance at 3.0, when the keep-alive ended
    orders = live.effects()
    assert [type(o) for o in orders] == [Drop, Load]
    assert live.result(10.0).bill.device_gib_s == pytest.approx(2.0 * 3.0)


def test_tables_that_grow_in_mid_flight_keep_arrival_times() -> None:
    # Each instance that goes starts a waiting one, within one call of advance.
    live = engine(300, gib=2.0)
    live.apply(Decision(host_keep_alive_s=np.full((1, 300), 1e9)))
    ids = [live.arrive(0.01 * k, k % 300) for k in range(600)]
    now, answers = 10.0, 0
    while answers < len(ids):
        orders = live.effects()
        assert orders
        for o in orders:
            now += 0.5
            if isinstance(o, Load):
                live.ready(now, o.instance)
            elif isinstance(o, Run):
                answers += len(o.requests)
                live.completed(now, o.requests[0])
    out = live.result(now).outcome
    assert out.arrival_s == pytest.approx(0.01 * np.arange(600))
    assert np.all(out.tier != 255)
    assert np.all(out.start_s >= out.arrival_s)


def test_a_service_that_runs_on_gives_places_out_again() -> None:
    rng = np.random.default_rng(0)
    arrival_s = np.cumsum(rng.exponential(0.5, 4000))
    function = rng.integers(0, 3, 4000).astype(np.int32)
    work = Workload(arrival_s, function, ("f0", "f1", "f2"), float(arrival_s[-1]) + 100.0)
    functions = tuple(
        Function(f"f{k}", 2.0, 2.0, runtime_s=1.03, alpha_s=0.311 + 0.1 * k, beta_s=0.1,
                 max_batch=4)
        for k in range(3)
    )  # fmt: skip
    spec = Cluster(Node((Gpu(4.0),), host_gib=8.0), functions)
    kept, recycled = (FakeBackend(spec, work, Rules(), recycle=again) for again in (False, True))
    for end in (kept, recycled):
        end.run(work.horizon_s)
    assert len(kept.engine._requests) == 4000
    assert len(recycled.engine._requests) < 200
    assert recycled.answered == kept.answered == {}
    ours, theirs = (end.engine.result(work.horizon_s) for end in (recycled, kept))
    assert ours.bill == theirs.bill
    assert ours.counters == theirs.counters and theirs.counters["served"] == 4000
