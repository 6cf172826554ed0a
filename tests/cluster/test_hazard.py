"""The compiled hazard index and plan against slow references; hybrid histogram known answers.

Shapes: 72 bins.  Units: seconds, GiB.
"""

import math
from typing import Any

import numpy as np
import pytest

from stoker.baselines.bounds.hazard_oracle import bin_of, gap_bins, index_of
from stoker.baselines.hazard import HazardIndex
from stoker.baselines.hybrid_histogram import HybridHistogram
from stoker.envs.cluster.features import bin_of as compiled_bin_of
from stoker.envs.cluster.jit import entry
from stoker.envs.cluster.rules.hazard import hazard_plan, hazard_score
from stoker.envs.cluster.simulation import Simulation, simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Objective, Rules
from stoker.envs.cluster.tables import fn_at
from stoker.envs.workload.workload import Workload

BINS = 72
FIRST_S = 3.0
SERVICE_S = 0.25


@entry
def read_index(rows, f, ages, out):  # type: ignore[no-untyped-def]
    """Score function f of row 0 at every age, from a fresh index."""
    r = rows[0]
    fn_at(r["fn"], f)["index_valid"] = 0
    for k in range(ages.shape[0]):
        out[k] = hazard_score(r, f, compiled_bin_of(r["first_bin"], ages[k]))


@entry
def run_plan(rows, f):  # type: ignore[no-untyped-def]
    """Plan function f of row 0 afresh."""
    fn_at(rows[0]["fn"], f)["index_valid"] = 0
    hazard_plan(rows[0], f, False)


def traffic(seed: int) -> list[tuple[float, int]]:
    """Three functions: a jittered timer, bursts, and a rare one."""
    rng = np.random.default_rng(seed)
    gaps = [
        rng.normal(60.0, 4.0, 80).clip(1.0),
        np.where(rng.random(150) < 0.8, rng.exponential(2.0, 150), rng.exponential(300.0, 150)),
        rng.exponential(900.0, 6),
    ]
    calls = [(float(t), f) for f, g in enumerate(gaps) for t in np.cumsum(g + SERVICE_S)]
    return sorted(calls)


def cluster(**objective: float) -> Cluster:
    functions = (
        Function("timer", 4.0, 5.0, runtime_s=2.0, alpha_s=SERVICE_S),
        Function("bursts", 1.0, 2.0, runtime_s=1.0, alpha_s=SERVICE_S),
        Function("rare", 9.0, 12.0, runtime_s=3.0, alpha_s=SERVICE_S),
    )
    node = Node((Gpu(40.0, price_usd_h=3.6),), disk=Link(1.0), pcie=Link(10.0))
    return Cluster(node, functions, Objective(**objective))


def run(seed: int = 0, **objective: float) -> Simulation:
    calls = traffic(seed)
    arrival, which = np.array([t for t, _ in calls]), np.array([f for _, f in calls], np.int32)
    workload = Workload(arrival, which, ("timer", "bursts", "rare"), float(arrival[-1]) + 30.0)
    sim = Simulation([cluster(**objective)], [workload], Rules(eviction="hazard"))
    sim.run()
    return sim


def gaps_of(sim: Simulation, f: int) -> list[float]:
    """Idle gaps of a function, from its requests alone (none of them overlap a busy time twice)."""
    out = sim.result().outcome
    mine = out.function == f
    arrival, finish = out.arrival_s[mine], out.finish_s[mine]
    done = np.maximum.accumulate(finish[:-1])
    return [float(a - d) for a, d in zip(arrival[1:], done, strict=True) if a > d]


def forecast(sim: Simulation, f: int, decay: float = 0.97, weight: float = 0.1) -> np.ndarray:
    """Own decayed histogram with the population's as prior, from the requests alone."""
    prior = np.full(BINS, 1.0 / BINS)
    for g in range(3):
        for n, k in enumerate(bin_of(np.array(gaps_of(sim, g)), FIRST_S).tolist()):
            prior[k] += 1.0 / math.sqrt(n + 1)
    prior /= prior.sum()
    own = np.zeros(BINS)
    bins = bin_of(np.array(gaps_of(sim, f)), FIRST_S)
    for later, k in enumerate(bins[::-1].tolist()):
        own[k] += decay**later
    return (own + weight * prior) / (own.sum() + weight)


@pytest.mark.parametrize("f", [0, 1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_compiled_index_is_the_slow_one_at_every_age(f: int, seed: int) -> None:
    sim = run(seed)
    edges = gap_bins(FIRST_S)
    ages = 0.5 * (edges[1:] + edges[:-1])
    found = np.zeros(BINS)
    read_index(sim.state.rows, f, ages, found)
    spec = sim.clusters[0].functions[f]
    per_gib = sim.clusters[0].load_s(f) / spec.device_gib
    expected = index_of(forecast(sim, f), FIRST_S) * per_gib
    assert found == pytest.approx(expected, rel=2e-3)


def test_a_hazard_that_falls_with_every_bin_keeps_all_of_them_on_the_hull() -> None:
    # Nothing seen yet: equal mass in bins that widen, so each age has a slope of its own.
    nobody = Workload(np.zeros(0), np.zeros(0, np.int32), ("timer", "bursts", "rare"), 10.0)
    sim = Simulation([cluster()], [nobody], Rules(eviction="hazard"))
    edges, found = gap_bins(FIRST_S), np.zeros(BINS)
    read_index(sim.state.rows, 0, 0.5 * (edges[1:] + edges[:-1]), found)
    spec = sim.clusters[0].functions[0]
    flat = index_of(np.ones(BINS), FIRST_S) * sim.clusters[0].load_s(0) / spec.device_gib
    assert found == pytest.approx(flat, rel=1e-5)
    assert sim.state.scratch[0]["cdf"][0] == 0.0
    assert sim.state.scratch[0]["cdf"][BINS] == pytest.approx(1.0)


def test_a_function_that_was_never_idle_scores_as_the_oldest_age() -> None:
    sim = run()
    found = np.zeros(2)
    read_index(sim.state.rows, 0, np.array([math.inf, 1e9]), found)
    assert found[0] == found[1]
    assert np.all(np.isfinite(found))


def brute_force(
    mass: np.ndarray, rent: float, cost: float, fee: float, load: float
) -> tuple[float, Any]:
    """Cheapest expected cost of one gap over (keep, a, b): keep, go, load again at a, hold to b."""
    edges = gap_bins(FIRST_S)
    cdf = np.concatenate([[0.0], np.minimum(np.cumsum(mass), 1.0)])
    survive = 1.0 - 0.5 * (cdf[1:] + cdf[:-1])
    hold = np.concatenate([[0.0], np.cumsum(np.diff(edges) * survive)])
    keep = rent * hold + cost * (1.0 - cdf)
    best: tuple[float, Any] = (float(keep.min()), None)
    for k in range(BINS):
        for a in range(max(k, 1), BINS):
            away = cost * (cdf[a] - cdf[k])
            again = (fee + rent * load) * (1.0 - cdf[a])
            then = rent * (hold[a + 1 :] - hold[a]) + cost * (1.0 - cdf[a + 1 :])
            total = rent * hold[k] + away + again + then
            b = int(np.argmin(total))
            if total[b] < best[0] - 1e-12:
                best = (float(total[b]), (a, a + 1 + b))
    return best


@pytest.mark.parametrize("f", [0, 1, 2])
@pytest.mark.parametrize("price", [1e-4, 3e-3, 2e-2, 0.3])
def test_the_prewarm_plan_is_the_cheapest_of_all_plans(f: int, price: float) -> None:
    sim = run(load_usd_s=0.2)
    row, fn = sim.state.rows[0], sim.state.fn[0, f]
    row["price"], row["price_t"] = price, row["now"]
    run_plan(sim.state.rows, f)
    spec, load = sim.clusters[0].functions[f], sim.clusters[0].load_s(f)
    rent = (sim.clusters[0].device_usd_gib_s + price) * spec.device_gib
    mass = forecast(sim, f)
    _, best = brute_force(mass, rent, load * 1.2, load * 0.2, load)
    if best is None:
        assert fn["prewarm_after_s"] == math.inf
        return
    edges = gap_bins(FIRST_S)
    a, b = best
    assert fn["prewarm_after_s"] == pytest.approx(max(edges[a] - load, 0.0))
    assert fn["prewarm_keep_s"] == pytest.approx(edges[b] - edges[a] + load)


def test_a_timer_with_dear_memory_is_unloaded_and_loaded_again_shortly_before_it_fires() -> None:
    sim = run()
    row, fn = sim.state.rows[0], sim.state.fn[0, 0]
    row["price"], row["price_t"] = 0.05, row["now"]
    run_plan(sim.state.rows, 0)
    load = sim.clusters[0].load_s(0)
    assert 35.0 < fn["prewarm_after_s"] + load < 60.0
    assert fn["prewarm_after_s"] + fn["prewarm_keep_s"] > 60.0


@pytest.mark.parametrize("f", [0, 1, 2])
@pytest.mark.parametrize("hourly", [0.4, 40.0, 4000.0])
def test_keep_alive_is_the_age_up_to_which_rent_pays(f: int, hourly: float) -> None:
    base = cluster()
    node = Node((Gpu(40.0, price_usd_h=hourly),), disk=base.node.disk, pcie=base.node.pcie)
    calls = traffic(0)
    arrival, which = np.array([t for t, _ in calls]), np.array([k for _, k in calls], np.int32)
    workload = Workload(arrival, which, ("timer", "bursts", "rare"), float(arrival[-1]) + 30.0)
    priced = Cluster(node, base.functions, Objective())
    sim = Simulation([priced], [workload], Rules(eviction="hazard"))
    sim.run()
    run_plan(sim.state.rows, f)
    edges, mass = gap_bins(FIRST_S), forecast(sim, f)
    cdf = np.concatenate([[0.0], np.cumsum(mass)])
    hold = np.concatenate([[0.0], np.cumsum(np.diff(edges) * (1 - 0.5 * (cdf[1:] + cdf[:-1])))])
    rent = priced.device_usd_gib_s * priced.functions[f].device_gib
    k = int(np.argmin(rent * hold - priced.load_s(f) * cdf))
    expected = math.inf if k == BINS else edges[k]
    assert sim.state.fn[0, f]["keep_alive_s"] == pytest.approx(expected)


def test_gaps_are_counted_once_each_and_begin_when_the_last_request_is_done() -> None:
    sim = run()
    for f in range(3):
        fn, bins = sim.state.fn[0, f], bin_of(np.array(gaps_of(sim, f)), FIRST_S)
        assert fn["gaps"] == len(bins)
        assert sorted(set(bins.tolist())) == np.flatnonzero(fn["slow"]).tolist()


def hybrid(gaps_min: list[float], **settings: float) -> Simulation:
    """One function called with these idle times between calls."""
    at = np.cumsum([0.0] + [60.0 * g + 1.0 for g in gaps_min])
    workload = Workload(at, np.zeros(len(at), np.int32), ("f",), float(at[-1]) + 2.0)
    node = Cluster(Node((Gpu(4.0),)), (Function("f", 1.0, 1.0, runtime_s=0.0, alpha_s=1.0),))
    sim = Simulation([node], [workload], HybridHistogram(**settings).rules)  # type: ignore[arg-type]
    sim.run()
    return sim


def orders(sim: Simulation) -> tuple[float, float, float]:
    fn = sim.state.fn[0, 0]
    return float(fn["keep_alive_s"]), float(fn["prewarm_after_s"]), float(fn["prewarm_keep_s"])


def test_hybrid_histogram_unloads_and_loads_again_around_a_regular_call() -> None:
    # All idle times in minute 30: head = 30 min less 10 %, tail = 31 min plus 10 %.
    keep, after, then = orders(hybrid([30.5] * 20))
    assert (keep, after) == (0.0, 27.0 * 60.0)
    assert then == pytest.approx((34.1 - 27.0) * 60.0)


def test_hybrid_histogram_keeps_on_where_the_head_is_in_the_first_minute() -> None:
    # Minutes 0 (19 of 20) and 9: the 5th percentile is 0, the 99th is minute 9.
    keep, after, _ = orders(hybrid([0.5] * 19 + [9.5]))
    assert keep == pytest.approx(10 * 60.0 * 1.1)
    assert after == math.inf


def test_hybrid_histogram_keeps_four_hours_while_it_knows_nothing_or_nothing_regular() -> None:
    assert orders(hybrid([]))[:2] == (14400.0, math.inf)
    assert orders(hybrid([k + 0.5 for k in range(0, 240, 3)]))[:2] == (14400.0, math.inf)  # CV 1.4


def test_hybrid_histogram_keeps_four_hours_where_more_than_half_lie_beyond_them() -> None:
    assert orders(hybrid([300.0] * 6 + [30.5] * 5))[:2] == (14400.0, math.inf)
    assert orders(hybrid([300.0] * 5 + [30.5] * 5))[1] == 27.0 * 60.0


def test_hybrid_histogram_answers_a_regular_caller_warm_at_a_fraction_of_the_memory() -> None:
    sim = hybrid([30.5] * 40)
    assert np.count_nonzero(sim.result().outcome.tier == 0) >= 39
    always = 40 * 30.5 * 60.0
    assert sim.result().bill.device_gib_s < 0.5 * always


def test_the_hazard_policy_beats_recency_where_costs_differ() -> None:
    # A timer with a heavy load against bursts: evicting by recency drops the timer every minute.
    functions = (
        Function("timer", 8.0, 8.0, runtime_s=20.0, alpha_s=0.1),
        *(Function(f"noise{k}", 8.0, 8.0, runtime_s=0.5, alpha_s=0.1) for k in range(4)),
    )
    tight = Cluster(Node((Gpu(16.0),)), functions)
    rng = np.random.default_rng(5)
    calls = [(60.0 * k, 0) for k in range(1, 200)]
    calls += [(float(t), 1 + k % 4) for k, t in enumerate(np.cumsum(rng.exponential(10.0, 1200)))]
    calls.sort()
    arrival, which = np.array([t for t, _ in calls]), np.array([f for _, f in calls], np.int32)
    names = tuple(f.name for f in functions)
    workload = Workload(arrival, which, names, float(arrival[-1]) + 60.0)
    hazard = simulate(tight, workload, HazardIndex())[0]
    recency = Simulation([tight], [workload], Rules())
    recency.run()
    assert hazard.wait_s < 0.5 * recency.result().wait_s
