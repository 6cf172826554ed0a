"""No run of any policy costs less than the bound."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from toy_cluster import Dice, run

from stoker.baselines.bounds.lagrangian import lower_bound
from stoker.baselines.bounds.linear_program import solve
from stoker.baselines.bounds.relaxation import relax
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Objective
from stoker.envs.workload import Workload


def random_case(seed: int, *, drop_usd: float = 0.0) -> tuple[Cluster, Workload]:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 4))
    functions = tuple(
        Function(
            f"f{i}",
            weights_gib=float(rng.integers(1, 4)),
            device_gib=float(rng.integers(1, 5)),
            runtime_s=float(rng.integers(0, 5)) * 0.5,
            load_gib_s=2.0,
            alpha_s=float(rng.integers(0, 9)) * 0.25,
            concurrency=int(rng.integers(1, 3)),
            max_batch=int(rng.integers(1, 3)),
        )
        for i in range(count)
    )
    node = Node(
        (
            Gpu(
                float(rng.integers(4, 8)),
                price_usd_h=float(rng.choice([0.0, 36.0, 3600.0, 18000.0])),
            ),
        ),
        host_gib=float(rng.choice([0.0, 64.0])),
        host_price_usd_gib_h=float(rng.choice([0.0, 18.0, 360.0])),
        pcie=Link(4.0),
    )
    objective = Objective(
        wait_usd_s=float(rng.choice([0.1, 1.0, 3.0])),
        load_usd_s=float(rng.choice([0.0, 0.25, 2.0])),
        drop_usd=drop_usd,
    )
    requests = int(rng.integers(1, 30))
    gaps = np.round(rng.gamma(0.4, float(rng.choice([1.0, 5.0, 20.0])), requests) * 4) / 4
    arrival_s = np.cumsum(gaps)
    workload = Workload(
        arrival_s,
        rng.integers(0, count, requests).astype(np.int32),
        tuple(f.name for f in functions),
        float(arrival_s[-1]) + float(rng.choice([0.25, 20.0])),
    )
    return Cluster(node, functions, objective), workload


def random_dice(rng: np.random.Generator, refuse: float = 0.0) -> Dice:
    return Dice(
        serve=float(rng.choice([0.5, 1.0])),
        start=float(rng.choice([0.05, 0.3, 1.0])),
        prewarm=float(rng.choice([0.0, 0.0, 0.02])),
        drop=float(rng.choice([0.02, 0.2, 1.0])),
        host=float(rng.choice([0.0, 0.5, 1.0])),
        refuse=refuse,
    )


@pytest.mark.parametrize("seed", range(40))
def test_random_policies_that_queue_share_prewarm_and_use_the_host_cost_more(seed: int) -> None:
    cluster, workload = random_case(seed)
    optimum = solve(relax(cluster, workload, bins=32)).total_usd
    bound = lower_bound(cluster, workload, bins=32, iterations=60).total_usd
    assert bound <= optimum + 1e-9 * (1.0 + optimum)
    rng = np.random.default_rng(1000 + seed)
    cheapest = min(run(cluster, workload, random_dice(rng), rng) for _ in range(25))
    assert optimum <= cheapest + 1e-9 * (1.0 + cheapest)


@pytest.mark.parametrize("seed", range(20))
def test_policies_that_only_start_on_demand_cost_more_than_their_own_bound(seed: int) -> None:
    cluster, workload = random_case(seed)
    optimum = solve(relax(cluster, workload, bins=32, prewarm=False)).total_usd
    rng = np.random.default_rng(3000 + seed)
    for _ in range(15):
        dice = replace(random_dice(rng), prewarm=0.0, host=0.0)
        cost = run(cluster, workload, dice, rng)
        assert optimum <= cost + 1e-9 * (1.0 + cost)


@pytest.mark.parametrize("seed", range(40))
def test_runs_that_starve_functions_until_the_horizon_cost_more(seed: int) -> None:
    cluster, workload = random_case(seed)
    bound = lower_bound(cluster, workload, bins=32, iterations=60).total_usd
    rng = np.random.default_rng(4000 + seed)
    for _ in range(15):
        start = float(rng.choice([0.0, 0.01, 0.3]))
        dice = replace(random_dice(rng), start=start, prewarm=0.0)
        cost = run(cluster, workload, dice, rng, stop=True)
        assert bound <= cost + 1e-9 * (1.0 + cost)


@pytest.mark.parametrize("seed", range(20))
def test_policies_that_refuse_requests_cost_more(seed: int) -> None:
    cluster, workload = random_case(seed, drop_usd=float([0.2, 1.0, 5.0, 50.0][seed % 4]))
    bound = lower_bound(cluster, workload, bins=32, iterations=60).total_usd
    rng = np.random.default_rng(2000 + seed)
    for _ in range(15):
        refuse = float(rng.choice([0.0, 0.1, 1.0]))
        assert bound <= run(cluster, workload, random_dice(rng, refuse), rng) + 1e-9


def best_plan(cluster: Cluster, workload: Workload) -> float:
    """Cheapest of all {keep, prewarm, cold} plans that fit the memory at every instant."""
    goal, price, spans_of, costs_of = cluster.objective, cluster.device_usd_gib_s, [], []
    for fn, spec in enumerate(cluster.functions):
        load_s, last = cluster.load_s(fn), None
        for a in workload.arrival_s[workload.function == fn]:
            spans = [(a - load_s, a + spec.alpha_s), (a, a + load_s + spec.alpha_s)]
            fees = [goal.load_usd_s * load_s, (goal.load_usd_s + goal.wait_usd_s) * load_s]
            if last is not None:
                spans.append((last, a + spec.alpha_s))
                fees.append(0.0)
            spans_of.append([(s, e, spec.device_gib) for s, e in spans])
            costs_of.append(
                [
                    f + price * spec.device_gib * (e - s)
                    for f, (s, e) in zip(fees, spans, strict=True)
                ]
            )
            last = a + spec.alpha_s
    best = np.inf
    for pick in itertools.product(*[range(len(s)) for s in spans_of]):
        cost = sum(c[k] for c, k in zip(costs_of, pick, strict=True))
        if cost < best:
            held = [s[k] for s, k in zip(spans_of, pick, strict=True)]
            peak = max(sum(g for s, e, g in held if s <= t < e) for t, _, _ in held)
            best = cost if peak <= cluster.device_gib else best
    return float(best)


@pytest.mark.parametrize("seed", range(12))
def test_the_program_lies_below_the_best_of_all_feasible_plans(seed: int) -> None:
    rng = np.random.default_rng(seed)
    functions = tuple(
        Function(f"f{i}", 1.0, float(rng.integers(2, 6)), runtime_s=1.0, alpha_s=0.5, concurrency=9)
        for i in range(3)
    )
    cluster = Cluster(
        Node((Gpu(float(rng.integers(6, 10)), 36.0),)), functions, Objective(1.0, 0.5)
    )
    # Plans are enumerated with cold service ending before the function's next arrival.
    arrival_s = 2.0 + np.cumsum(rng.uniform(1.0, 4.0, 8))
    fn = (np.arange(8) % 3).astype(np.int32)
    workload = Workload(arrival_s, fn, tuple(f.name for f in functions), 60.0)
    optimum = solve(relax(cluster, workload, bins=256)).total_usd
    assert optimum <= best_plan(cluster, workload) + 1e-9


def test_without_pressure_the_bound_is_the_best_plan() -> None:
    functions = (
        Function("a", 1.0, 2.0, runtime_s=1.0, alpha_s=0.5),
        Function("b", 1.0, 4.0, runtime_s=2.0, alpha_s=0.25),
    )
    cluster = Cluster(Node((Gpu(100.0, 36_000.0),)), functions, Objective(1.0, 0.5))
    arrival_s = np.array([3.0, 4.0, 6.0, 9.0, 20.0, 24.0, 60.0, 61.5])
    fn = np.array([0, 1, 0, 1, 0, 1, 1, 0], np.int32)
    workload = Workload(arrival_s, fn, ("a", "b"), 100.0)
    assert lower_bound(cluster, workload).total_usd == pytest.approx(best_plan(cluster, workload))
