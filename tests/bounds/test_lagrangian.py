"""Hand-worked numbers, edge cases and the distance to the exact program."""

from dataclasses import replace

import numpy as np
import pytest

from stoker.baselines.bounds import relaxation
from stoker.baselines.bounds.bench import bench, synthetic
from stoker.baselines.bounds.lagrangian import lower_bound
from stoker.baselines.bounds.linear_program import solve
from stoker.baselines.bounds.pricing import Pricing
from stoker.baselines.bounds.relaxation import relax
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Objective
from stoker.envs.workload import Workload

A_DOLLAR_A_GIB_S = 3600.0


def cluster_of(
    *sizes: float, memory_gib: float = 100.0, usd_gib_s: float = 0.01, objective: Objective
) -> Cluster:
    functions = tuple(
        Function(f"f{i}", 1.0, size, runtime_s=2.0, alpha_s=1.0) for i, size in enumerate(sizes)
    )
    gpu = Gpu(memory_gib, A_DOLLAR_A_GIB_S * usd_gib_s * memory_gib)
    return Cluster(Node((gpu,)), functions, objective)


def workload_of(arrivals: list[float], function: list[int], horizon_s: float = 100.0) -> Workload:
    names = tuple(f"f{i}" for i in range(max(function, default=0) + 1))
    return Workload(np.array(arrivals), np.array(function, np.int32), names, horizon_s)


def test_one_function_prewarms_keeps_the_short_gap_and_reloads_after_the_long_one() -> None:
    cluster = cluster_of(10.0, objective=Objective(wait_usd_s=1.0, load_usd_s=0.5))
    workload = workload_of([5.0, 8.0, 60.0], [0, 0, 0])
    bound = lower_bound(cluster, workload)
    busy_usd, lead_usd, load_usd = 3 * 1.0 * 0.1, 2.0 * 0.1, 2.0 * 0.5
    keep_usd = 2.0 * 0.1
    assert bound.total_usd == pytest.approx(busy_usd + 2 * (load_usd + lead_usd) + keep_usd)
    assert (bound.wait_usd, bound.load_usd) == (0.0, pytest.approx(2.0))
    assert bound.scarcity_usd == pytest.approx(0.0)


def test_on_demand_start_ups_make_the_first_request_wait() -> None:
    cluster = cluster_of(10.0, objective=Objective(wait_usd_s=1.0, load_usd_s=0.5))
    bound = lower_bound(cluster, workload_of([5.0], [0]), prewarm=False)
    assert bound.total_usd == pytest.approx(1.0 * 0.1 + 2.0 * 0.5 + 2.0 * 1.0)


def test_an_arrival_sooner_than_a_start_up_waits_for_the_rest_of_it() -> None:
    cluster = cluster_of(10.0, objective=Objective(wait_usd_s=1.0, load_usd_s=0.5))
    bound = lower_bound(cluster, workload_of([0.5], [0]))
    assert bound.wait_usd == pytest.approx(1.5)
    assert bound.total_usd == pytest.approx(1.5 + 1.0 + (0.5 + 1.0) * 0.1)


def test_two_functions_that_do_not_fit_together_pay_for_one_reload_each_time() -> None:
    objective = Objective(wait_usd_s=10.0, load_usd_s=1.0)
    cluster = cluster_of(6.0, 6.0, memory_gib=6.0, usd_gib_s=0.0, objective=objective)
    workload = workload_of([10.0, 20.0, 30.0, 40.0], [0, 1, 0, 1])
    edges_s = np.unique(
        [0.0, 100.0, *(t + d for t in workload.arrival_s for d in (-2.0, 0.0, 1.0))]
    )
    relaxed = replace(relax(cluster, workload, bins=2), edges_s=edges_s)
    assert solve(relaxed).total_usd == pytest.approx(4 * 2.0)
    roomy = cluster_of(6.0, 6.0, memory_gib=12.0, usd_gib_s=0.0, objective=objective)
    assert lower_bound(roomy, workload).total_usd == pytest.approx(2 * 2.0)


def test_work_beyond_the_memory_is_charged_as_waiting() -> None:
    objective = Objective(wait_usd_s=1.0, load_usd_s=0.0)
    cluster = cluster_of(5.0, 5.0, memory_gib=5.0, usd_gib_s=0.0, objective=objective)
    workload = workload_of([10.0, 10.0], [0, 1])
    edges_s = np.array([0.0, 8.0, 10.0, 11.0, 100.0])
    relaxed = replace(relax(cluster, workload, bins=2), edges_s=edges_s)
    # One of the two waits through the other's service and loads meanwhile or before.
    assert solve(relaxed).total_usd == pytest.approx(1.0 + 2.0)


def test_no_requests_cost_nothing() -> None:
    cluster = cluster_of(5.0, objective=Objective())
    empty = Workload(np.zeros(0), np.zeros(0, np.int32), ("f0",), 10.0)
    assert lower_bound(cluster, empty).total_usd == 0.0
    assert solve(relax(cluster, empty, bins=8)).total_usd == 0.0


def test_a_host_copy_saves_the_disk_leg_where_its_rent_is_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relaxation, "CHARGE_FETCH", True)
    functions = (Function("f0", 8.0, 10.0, runtime_s=1.0, load_gib_s=1.0, alpha_s=1.0),)
    objective, gpu = Objective(1.0, load_usd_s=0.5), Gpu(100.0, 3_600.0)
    workload = workload_of([50.0, 200.0], [0, 0], horizon_s=300.0)
    totals = []
    for host_usd_gib_h in (0.36, 3600.0):
        node = Node((gpu,), host_gib=64.0, host_price_usd_gib_h=host_usd_gib_h)
        totals.append(lower_bound(Cluster(node, functions, objective), workload))
    assert totals[0].load_usd == pytest.approx(0.5 * (9.0 + 1.0))
    assert totals[1].load_usd == pytest.approx(0.5 * (9.0 + 9.0))
    # The copy may take the disk leg to fetch, unpaid: 149 s gap - 1 s load - 8 s leg.
    assert totals[0].total_usd == pytest.approx(5.0 + 2 * 0.1 + 2 * 0.1 + 8.0 * 1e-4 * 140.0)


def test_fetching_a_host_copy_is_no_start_up_work() -> None:
    functions = (Function("f0", 8.0, 10.0, runtime_s=1.0, load_gib_s=1.0, alpha_s=1.0),)
    node = Node((Gpu(100.0, 3_600.0),), host_gib=64.0)
    bound = lower_bound(Cluster(node, functions, Objective(1.0, 0.5)), workload_of([50.0], [0]))
    assert bound.load_usd == pytest.approx(0.5 * 1.0)


def test_a_function_that_starves_until_the_horizon_pays_for_its_waiting_only() -> None:
    objective = Objective(wait_usd_s=0.01, load_usd_s=5.0)
    cluster = cluster_of(10.0, usd_gib_s=0.0, objective=objective)
    bound = lower_bound(cluster, workload_of([50.0], [0]))
    assert bound.total_usd == pytest.approx(50.0 * 0.01)
    assert bound.unserved_usd > 0.0


def test_cheap_refusals_lower_the_bound_and_dear_ones_do_not() -> None:
    workload = workload_of([5.0, 60.0], [0, 0])
    cheap, dear, never = (
        lower_bound(cluster_of(10.0, objective=Objective(1.0, 0.5, drop_usd=usd)), workload)
        for usd in (0.25, 50.0, 0.0)
    )
    assert dear.total_usd == never.total_usd
    assert cheap.total_usd == pytest.approx(2 * 0.25)
    assert "refuses nothing" in never.valid_note


def test_equal_inputs_give_equal_bytes() -> None:
    cluster, workload = synthetic(3_000)
    one, two = (lower_bound(cluster, workload, iterations=30) for _ in range(2))
    assert one.total_usd == two.total_usd
    assert one.price_usd_gib_s.tobytes() == two.price_usd_gib_s.tobytes()


def test_equal_sizes_on_exact_time_bins_give_whole_decisions() -> None:
    rng = np.random.default_rng(3)
    functions = tuple(
        Function(f"f{i}", 1.0, 1.0, runtime_s=float(rng.uniform(1.0, 3.0)), concurrency=8)
        for i in range(12)
    )
    cluster = Cluster(Node((Gpu(4.0, 1.0),)), functions, Objective(1.0, 1.0))
    arrival_s = np.cumsum(rng.exponential(4.0, 300))
    workload = Workload(
        arrival_s,
        rng.integers(0, 12, 300).astype(np.int32),
        tuple(f.name for f in functions),
        float(arrival_s[-1]) + 9.0,
    )
    relaxed = relax(cluster, workload, bins=2, prewarm=False)
    edges_s = np.unique([0.0, *arrival_s, workload.horizon_s])
    share = solve(replace(relaxed, edges_s=edges_s)).share
    np.testing.assert_allclose(share, np.round(share), atol=1e-7)
    assert 0.1 < share[:, 0].mean() < 0.9


@pytest.mark.parametrize(
    ("memory_gib", "service_s", "concurrency"), [(160.0, 0.3, 8), (640.0, 0.3, 8), (320.0, 5.0, 1)]
)
def test_the_price_search_ends_within_a_thousandth_of_the_program(
    memory_gib: float, service_s: float, concurrency: int
) -> None:
    cluster, workload = synthetic(
        2_000, memory_gib=memory_gib, service_s=service_s, concurrency=concurrency
    )
    optimum = solve(relax(cluster, workload, bins=256)).total_usd
    bound = lower_bound(cluster, workload, bins=256).total_usd
    assert 0.999 * optimum <= bound <= optimum * (1.0 + 1e-9)


def test_every_price_gives_a_value_below_the_program() -> None:
    cluster, workload = synthetic(300, functions=40, memory_gib=60.0)
    relaxed = relax(cluster, workload, bins=64)
    optimum, pricing = solve(relaxed), Pricing(relaxed)
    at_optimum = pricing.evaluate(optimum.price_usd_gib_s)[0]
    assert at_optimum == pytest.approx(optimum.total_usd, rel=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(50):
        lam = optimum.price_usd_gib_s * rng.lognormal(0.0, 1.0, len(relaxed.widths_s))
        assert pricing.evaluate(lam)[0] <= optimum.total_usd * (1.0 + 1e-9)


def test_the_supergradient_is_one() -> None:
    cluster, workload = synthetic(500, functions=40, memory_gib=60.0)
    pricing = Pricing(relax(cluster, workload, bins=32))
    rng = np.random.default_rng(1)
    for _ in range(20):
        here, there = rng.lognormal(-6.0, 2.0, (2, len(pricing.relaxed.widths_s)))
        value, slope, _, _ = pricing.evaluate(here)
        assert pricing.evaluate(there)[0] <= value + slope @ (there - here) + 1e-6 * abs(value)


@pytest.mark.slow
def test_a_million_requests_take_at_most_a_minute() -> None:
    figures = bench()
    print(figures)
    assert figures["seconds"] <= 60.0
    assert figures["gap_to_program"] <= 1e-3
