"""Whatever the cluster, the traffic, the rules and the orders: what must never break."""

from dataclasses import replace

import numpy as np
import pytest
from book_checks import check_books, check_service_times
from hypothesis import given, settings
from hypothesis import strategies as st
from small_clusters import AT_ONCE, FAR_S, LONG, QUICK, Case, Orders, cases, decide, faulty, rules
from table_checks import check_row

from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Rules

PARALLEL = ("parallel",)
NOT_EXCLUSIVE = ("parallel", "processor", "spatial")
BUSY_S = 40.0
STEP_S = 0.35


def start(case: Case, chosen: Rules) -> Simulation:
    return Simulation([case.cluster], [case.workload], chosen, faults=[case.faults])


def drive(case: Case, chosen: Rules) -> Simulation:
    """Random orders while traffic flows, checks at every step; then everything can be served."""
    sim, orders = start(case, chosen), Orders(case, chosen)
    now, due, before = 0.0, 0.0, -1.0
    while now < BUSY_S:
        if now >= due:
            decide(sim, [orders.next()])
            check_row(sim, 0)
            due = now + case.tick_s
        now += STEP_S
        sim.run(now)
        check_row(sim, 0)
        assert float(sim.state.rows[0]["now"]) > before
        before = float(sim.state.rows[0]["now"])
    decide(sim, [orders.last()])
    check_row(sim, 0)
    check_books(sim, 0)
    return sim


def finish(sim: Simulation) -> None:
    """Run to the far horizon: no request is lost, no queue is stuck."""
    sim.run(FAR_S / 2)
    check_row(sim, 0)
    req = sim.state.req[0]
    assert np.all(np.isfinite(req["finish"]))
    assert not np.any(req["tier"] == 255)
    check_service_times(sim, 0)
    sim.run()
    check_books(sim, 0)


def pin(chosen: Rules, case: Case) -> bool:
    """Whether these rules can run on this cluster."""
    exclusive = any(g.sharing == "exclusive" for g in case.cluster.gpus)
    slowed = any(g.slows for g in case.cluster.gpus)
    return not (
        (exclusive and chosen.scale_out in AT_ONCE)
        or (slowed and chosen.scale_out == "wait_vs_cold")
    )


@given(cases(), rules(("target_concurrency",)))
@settings(QUICK, max_examples=60)
def test_the_books_balance_and_every_request_is_answered(case: Case, chosen: Rules) -> None:
    finish(drive(case, chosen))


@given(cases(NOT_EXCLUSIVE), rules(("per_request",)))
@settings(QUICK, max_examples=60)
def test_the_same_where_requests_start_their_own_instances(case: Case, chosen: Rules) -> None:
    finish(drive(case, chosen))


@given(cases(PARALLEL), rules(("wait_vs_cold",)))
@settings(QUICK, max_examples=60)
def test_the_same_where_requests_weigh_waiting_against_a_cold_start(
    case: Case, chosen: Rules
) -> None:
    finish(drive(case, chosen))


@given(faulty(), rules(("target_concurrency",)))
@settings(QUICK, max_examples=60)
def test_the_same_where_nodes_are_lost_and_links_slow(case: Case, chosen: Rules) -> None:
    finish(drive(case, chosen))


@given(faulty(PARALLEL), rules(("per_request", "wait_vs_cold")))
@settings(QUICK, max_examples=40)
def test_the_same_for_the_other_scale_outs(case: Case, chosen: Rules) -> None:
    finish(drive(case, chosen))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(st.one_of(cases(), faulty()), rules())
@settings(LONG)
def test_the_same_at_length(case: Case, chosen: Rules) -> None:
    if pin(chosen, case):
        finish(drive(case, chosen))


def together(some: list[Case], chosen: Rules, rows: int, threads: int) -> list[bytes]:
    """Outcome, bill and counters of every row, run side by side."""
    pattern = [some[k % len(some)] for k in range(rows)]
    sim = Simulation(
        [c.cluster for c in pattern],
        [c.workload for c in pattern],
        chosen,
        threads=threads,
        faults=[c.faults for c in pattern],
    )
    orders = [Orders(c, chosen) for c in pattern]
    now = 0.0
    while now < BUSY_S:
        decide(sim, [o.next() for o in orders])
        now += 2.0
        sim.run(now)
    sim.run()
    results = [sim.result(k) for k in range(rows)]
    return [
        b"".join(
            [r.outcome.tier.tobytes(), r.outcome.start_s.tobytes(), r.outcome.finish_s.tobytes(),
             repr(r.bill).encode(), repr(r.counters).encode(), repr(r.slo_attainment).encode()]
        )
        for r in results
    ]  # fmt: skip


def cut(case: Case, horizon_s: float) -> Case:
    """The same case over a horizon of its own."""
    w = case.workload.where(case.workload.arrival_s < horizon_s)
    return replace(case, workload=replace(w, horizon_s=horizon_s))


@given(cases(), cases(), cases(PARALLEL), rules(("target_concurrency",)))
@settings(QUICK, max_examples=25)
def test_a_row_does_not_depend_on_its_neighbours(a: Case, b: Case, c: Case, chosen: Rules) -> None:
    some = [cut(a, 31.0), cut(b, 17.0), cut(c, 60.0)]
    alone = [together([case], chosen, 1, 1)[0] for case in some]
    assert together(some, chosen, 5, 1) == [alone[k % 3] for k in range(5)]


@given(faulty(), cases(), faulty(), rules(("target_concurrency",)))
@settings(QUICK, max_examples=25)
def test_what_goes_wrong_in_a_row_does_not_depend_on_the_others(
    a: Case, b: Case, c: Case, chosen: Rules
) -> None:
    some = [cut(a, 41.0), cut(b, 17.0), cut(c, 60.0)]
    alone = [together([case], chosen, 1, 1)[0] for case in some]
    assert together(some, chosen, 5, 1) == [alone[k % 3] for k in range(5)]
    assert together(some, chosen, 5, 2) == [alone[k % 3] for k in range(5)]


@given(cases(), cases(), rules(("target_concurrency",)))
@settings(QUICK, max_examples=5)
def test_256_rows_and_two_threads_give_the_same_bytes_as_one(
    a: Case, b: Case, chosen: Rules
) -> None:
    alone = [together([case], chosen, 1, 1)[0] for case in (a, b)]
    wide = together([a, b], chosen, 256, 1)
    assert wide == [alone[k % 2] for k in range(256)]
    assert together([a, b], chosen, 256, 2) == wide
