"""What only a running planner needs: requests taken back, other rules, memory, residency."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.idle import observe_rows
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.live_effects import Drop, Load, Run
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Objective, Rules


def made(
    n: int = 1, gib: float = 4.0, rules: Rules | None = None, residency_s: float = 0.0,
    price_usd_h: float = 0.0, **changes: float,
) -> LiveEngine:  # fmt: skip
    standard = {"runtime_s": 1.0, "alpha_s": 1.0, "max_batch": 2, **changes}
    functions = tuple(Function(f"f{k}", 2.0, 2.0, **standard) for k in range(n))  # type: ignore[arg-type]
    cluster = Cluster(
        Node((Gpu(gib, price_usd_h),), host_gib=8.0), functions, Objective(wait_usd_s=0.01)
    )
    return LiveEngine(cluster, rules or Rules(), capacity=2, residency_s=residency_s)


def bring_up(engine: LiveEngine, t: float, fn: int) -> int:
    """Load and serve one request of `fn`: the instance is ready at t + 1 and idle at t + 2."""
    head = engine.arrive(t, fn)
    (load,) = [e for e in engine.effects() if isinstance(e, Load)]
    engine.ready(t + 1.0, load.instance)
    engine.effects()
    engine.completed(t + 2.0, head)
    return load.instance


# CANCEL


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_request_taken_back_leaves_the_others_in_their_order(gone: int) -> None:
    engine = made(max_batch=4, gib=2.0)
    q = [engine.arrive(0.0, 0) for _ in range(3)]
    (load,) = [e for e in engine.effects() if isinstance(e, Load)]
    assert engine.cancel(0.5, q[gone])
    assert not engine.cancel(0.6, q[gone]), "it has ended"
    assert engine.snapshot().queued[0, 0] == 2
    engine.ready(1.0, load.instance)
    (run,) = [e for e in engine.effects() if isinstance(e, Run)]
    assert run.requests == tuple(k for k in q if k != q[gone])
    late = engine.arrive(1.1, 0)
    engine.completed(2.0, run.requests[0])
    assert engine.effects() == [Run(load.instance, 0, 0, (late,))]
    assert not engine.cancel(2.1, late), "it runs"
    engine.completed(3.0, late)
    result = engine.result(3.0)
    assert (result.counters["served"], result.counters["drops"]) == (3, 1)
    assert np.isfinite(result.outcome.finish_s).all()


def test_a_queue_that_is_taken_back_whole_leaves_a_warm_instance_and_no_batch() -> None:
    engine = made()
    q = [engine.arrive(0.0, 0) for _ in range(2)]
    (load,) = [e for e in engine.effects() if isinstance(e, Load)]
    assert engine.cancel(0.2, q[1]) and engine.cancel(0.3, q[0])
    engine.ready(1.0, load.instance)
    assert engine.effects() == []
    assert engine.snapshot().idle[0, 0] == 1 and engine.snapshot().last_idle_s[0, 0] == 0.3
    again = engine.arrive(2.0, 0)
    assert engine.effects() == [Run(load.instance, 0, 0, (again,))]


def test_a_function_whose_only_request_is_taken_back_waits_for_memory_no_more() -> None:
    engine = made(2, gib=2.0)
    busy = engine.arrive(0.0, 0)
    (load,) = [e for e in engine.effects() if isinstance(e, Load)]
    engine.ready(1.0, load.instance)
    engine.effects()
    waits = engine.arrive(1.5, 1)
    assert engine.cancel(1.6, waits)
    engine.completed(2.0, busy)
    assert engine.effects() == [], "nobody asks for the other function's memory"


# RESIDENCY


def test_what_was_loaded_stays_its_time_whatever_is_ordered() -> None:
    engine = made(residency_s=5.0)
    engine.apply(Decision(keep_alive_s=np.zeros((1, 1))))
    instance = bring_up(engine, 0.0, 0)  # ready at 1, idle at 2
    engine.apply(Decision(keep_alive_s=np.zeros((1, 1))))
    engine.advance(5.9)
    assert engine.effects() == []
    engine.advance(6.0)
    assert engine.effects() == [Drop(instance, 0, 0, False)]


def test_a_request_that_needs_the_memory_does_not_wait_for_the_residency() -> None:
    engine = made(2, gib=2.0, residency_s=100.0)
    first = bring_up(engine, 0.0, 0)
    engine.arrive(2.5, 1)
    kinds = [type(e) for e in engine.effects()]
    assert kinds == [Drop, Load]
    assert engine.snapshot().idle[0, 0] == 0 and first >= 0


def test_loads_ahead_of_demand_cannot_thrash() -> None:
    """Orders that want one of two functions on the only place, in turn, every second."""

    def loads_in_a_minute(residency_s: float) -> int:
        engine = made(2, gib=2.0, rules=Rules(eviction="score"), residency_s=residency_s)
        bring_up(engine, 0.0, 0)
        count = 0
        for t in range(3, 63):
            wanted = np.array([[t % 2, 1 - t % 2]], np.int32)
            engine.advance(float(t))
            engine.apply(
                Decision(
                    keep_alive_s=np.where(wanted, math.inf, 0.0), prewarm=wanted,
                    eviction_score=wanted.astype(np.float64),
                )
            )  # fmt: skip
            for load in [e for e in engine.effects() if isinstance(e, Load)]:
                count += 1
                engine.ready(t + 0.4, load.instance)
        return count

    assert loads_in_a_minute(0.0) == 59 and loads_in_a_minute(10.0) <= 6


# RULES


def fill(engine: LiveEngine) -> None:
    """Functions 0, 1 and 2 idle on three places, last used in that order; 0 the most often."""
    for k in range(3):
        bring_up(engine, 10.0 * k, k)
    for t in (30.0, 40.0):
        _served(engine, t, 0)
    for k in (1, 2):
        _served(engine, 50.0 + k, k)


def _served(engine: LiveEngine, t: float, fn: int) -> None:
    """A warm request from t to t + 0.5."""
    head = engine.arrive(t, fn)
    (run,) = engine.effects()
    assert isinstance(run, Run)
    engine.completed(t + 0.5, head)


def victim(engine: LiveEngine) -> int:
    engine.arrive(100.0, 3)
    drop, load = engine.effects()
    assert isinstance(drop, Drop) and isinstance(load, Load)
    return drop.fn


@pytest.mark.parametrize(
    ("before", "after", "goes"),
    [("lru", "lru", 0), ("lru", "greedy_dual", 1), ("greedy_dual", "lru", 0), ("hazard", "lru", 0),
     ("lru", "score", 2), ("score", "greedy_dual", 1), ("hazard", "score", 2)],
)  # fmt: skip
def test_after_a_change_of_rules_the_new_one_chooses_the_victim(
    before: str, after: str, goes: int
) -> None:
    engine = made(4, gib=6.0, rules=Rules(eviction=before))
    fill(engine)
    engine.follow(Rules(eviction=after))
    engine.apply(Decision(eviction_score=np.array([[3.0, 2.0, 1.0, 0.0]])))
    assert victim(engine) == goes


def test_the_hazard_plan_begins_with_its_rules_and_ends_with_them() -> None:
    hazard = Rules(eviction="hazard", plan="hazard", params={"prior_weight": 0.2})
    engine = made(2, price_usd_h=5000.0)
    bring_up(engine, 0.0, 0)
    engine.follow(hazard)
    _served(engine, 3.0, 0)
    planned = engine._state.fn[0, 0]["keep_alive_s"]
    assert planned < math.inf, "the plan has set it"
    engine.follow(Rules())
    engine.apply(Decision(keep_alive_s=np.full((1, 2), 77.0)))
    _served(engine, 4.0, 0)
    assert engine._state.fn[0, 0]["keep_alive_s"] == 77.0


def test_the_hybrid_histogram_can_be_taken_up_on_the_way() -> None:
    engine = made(2)
    bring_up(engine, 0.0, 0)
    engine.follow(Rules(plan="hybrid_histogram"))
    for k in range(5):
        _served(engine, 60.0 * (k + 1), 0)
    assert engine._state.hybrid[0, 0]["total"] == 5


def test_rules_that_cannot_change_are_named() -> None:
    with pytest.raises(SpecError, match=r"rules\.order = 'edf'.*only eviction, plan, params"):
        made().follow(Rules(order="edf"))


# MEMORY


def observed(engine: LiveEngine, fn: int) -> np.ndarray:
    """The observation at an idle event of `fn` now."""
    engine._row["pending"] = fn
    observe_rows(engine._state.rows, engine._sim.pending.books)
    engine._row["pending"] = -1
    return engine._sim.pending.observation[0].copy()


def test_a_restarted_planner_knows_what_the_one_before_knew() -> None:
    rules = Rules(eviction="hazard", plan="hazard")
    engine = made(3, gib=6.0, rules=rules)
    for k in range(3):
        bring_up(engine, 10.0 * k, k)
    rng = np.random.default_rng(0)
    t = 40.0
    for _ in range(60):
        t += float(rng.exponential(3.0)) + 1.0
        _served(engine, t, int(rng.integers(0, 2)))
    memory = engine.remember(t + 5.0)
    engine.advance(t + 12.0)
    fresh = made(3, gib=6.0, rules=rules)
    fresh.recall(memory, away_s=7.0)
    for fn in range(3):
        before, after = observed(engine, fn), observed(fresh, fn)
        own = [k for k in range(73) if k not in (10, 17, 18, 19, 20, 12)]
        np.testing.assert_allclose(after[own], before[own], atol=1e-6)
    np.testing.assert_array_equal(fresh.snapshot().arrivals, engine.snapshot().arrivals)
    np.testing.assert_allclose(
        fresh.snapshot().last_idle_s + t + 12.0, engine.snapshot().last_idle_s, atol=1e-9
    )


def test_functions_are_known_by_name_and_new_ones_begin_afresh() -> None:
    engine = made(2)
    bring_up(engine, 0.0, 1)
    memory = engine.remember(2.0)
    other = made(2)
    memory["names"] = np.array(["gone", "f0"])
    other.recall(memory)
    assert other.snapshot().arrivals[0].tolist() == [1, 0]


def test_work_in_flight_counts_as_ended_when_it_was_remembered() -> None:
    engine = made()
    engine.arrive(3.0, 0)
    fresh = made()
    fresh.recall(engine.remember(4.0), away_s=1.0)
    assert fresh.snapshot().last_idle_s[0, 0] == -1.0
    assert fresh.snapshot().last_arrival_s[0, 0] == -2.0


@pytest.mark.parametrize(
    ("change", "field"),
    [({"rate": np.zeros((1, 3))}, "memory.rate"),
     ({"slow": np.full((1, 72), np.nan)}, "memory.slow"),
     ({"gap": np.array(["x"])}, "memory.gap"), ({"prior": np.zeros(3)}, "memory.prior")],
)  # fmt: skip
def test_a_memory_that_is_not_one_is_refused(change: dict[str, np.ndarray], field: str) -> None:
    engine = made()
    with pytest.raises(SpecError, match=field):
        engine.recall({**engine.remember(0.0), **change})
    with pytest.raises(SpecError, match="these parts to be present"):
        engine.recall({})
