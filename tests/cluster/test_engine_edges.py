"""Sizes, orders and instants at the edge of what is legal. Units: seconds, GiB."""

import math
from pathlib import Path

import numpy as np
import pytest

from stoker.envs.cluster import engine, replay
from stoker.envs.cluster.decision import Capabilities, Decision, legalize
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.presets import PRESETS
from stoker.envs.cluster.rules.params import DEFAULTS
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import CHOICES, Cluster, Function, Gpu, Link, Node, Rules
from stoker.envs.workload.workload import Workload


def model(name: str, gib: float = 1.0, **changes: float) -> Function:
    return Function(name, gib, gib, **{"runtime_s": 1.0, "alpha_s": 1.0, **changes})  # type: ignore[arg-type]


def start(
    functions: list[Function], calls: list[tuple[float, int]], gib: float, rules: Rules, *,
    oversized: bool = False, horizon_s: float = 1e4, warmup_s: float = 0.0,
) -> Simulation:  # fmt: skip
    arrival, which = (
        np.array([t for t, _ in calls], float),
        np.array([f for _, f in calls], np.int32),
    )
    workload = Workload(arrival, which, tuple(f.name for f in functions), horizon_s)
    made = Cluster(Node((Gpu(gib),)), tuple(functions), drop_oversized=oversized)
    return Simulation([made], [workload], rules, warmup_s=warmup_s)


@pytest.mark.parametrize("policy", ["greedy_dual", "size", "freq", "lru"])
def test_a_function_of_no_size_and_no_duration_is_served(policy: str) -> None:
    result = replay.function_cache(
        [0.0, 0.0, 1.0, 2.0], [0, 1, 0, 1], [0.0, 10.0], [0.0, 0.0], [0.0, 1.0], 10.0, policy
    )
    assert result.outcome.tolist() == [1, 1, 0, 0]


def test_a_function_larger_than_every_gpu_is_refused_and_blocks_nobody() -> None:
    two = [model("big", 9.0), model("a", 3.0), model("b", 3.0)]
    sim = start(two, [(0.0, 0), (1.0, 1), (1.5, 2), (2.0, 0)], 4.0, Rules(), oversized=True)
    sim.run()
    assert sim.result().outcome.tier.tolist() == [2, 1, 1, 2]
    with pytest.raises(SpecError, match=r"function\[big\].device_gib"):
        start(two, [], 4.0, Rules())


def test_requests_during_a_start_up_of_their_own_end_no_gap() -> None:
    # per_request: 0, 0.1 and 0.2 start an instance each; the only gap is from 2.2 to 10.
    rules = Rules(scale_out="per_request", overload="drop")
    sim = start([model("a")], [(0.0, 0), (0.1, 0), (0.2, 0), (10.0, 0)], 40.0, rules)
    sim.run()
    fn = sim.state.fn[0, 0]
    assert fn["gaps"] == 1
    assert fn["gap"] == pytest.approx(10.0 - 2.2)
    assert np.count_nonzero(fn["slow"]) == 1


def test_a_refused_request_ends_a_gap_and_begins_the_next() -> None:
    # a fills the GPU until 100; b is refused at 10 and at 30.
    rules = Rules(scale_out="per_request", overload="drop")
    two = [model("a", alpha_s=100.0), model("b")]
    sim = start(two, [(0.0, 0), (10.0, 1), (30.0, 1)], 1.0, rules)
    sim.run()
    fn = sim.state.fn[0, 1]
    assert sim.result().outcome.tier.tolist() == [1, 2, 2]
    assert (fn["gaps"], fn["gap"]) == (1, 20.0)


@pytest.mark.parametrize("eviction", ["hazard", "score"])
def test_loading_and_evicting_what_was_never_called_is_legal(eviction: str) -> None:
    three = [model("a"), model("b"), model("c")]
    sim = start(three, [(10.0, 2), (20.0, 1)], 2.0, Rules(eviction=eviction))
    sim.apply(Decision(prewarm=np.array([[1, 1, 0]])))
    sim.run()
    assert np.all(np.isfinite(sim.result().outcome.finish_s))


def test_an_infinite_score_goes_last_but_does_not_block_the_gpu() -> None:
    three = [model("a"), model("b"), model("c")]
    sim = start(three, [(0.0, 0), (5.0, 1), (10.0, 2), (20.0, 1)], 2.0, Rules(eviction="score"))
    sim.apply(Decision(eviction_score=np.array([[math.inf, 0.0, math.inf]])))
    sim.run(15.0)
    assert sim.snapshot().idle.tolist() == [[1, 0, 1]]  # b, the lowest, made room for c
    sim.run()
    assert np.all(np.isfinite(sim.result().outcome.finish_s))
    assert math.isfinite(float(sim.state.rows[0]["price"]))


def test_an_order_to_load_without_end_fills_the_memory_and_no_more() -> None:
    sim = start([model("a"), model("b", 0.0)], [], 4.0, Rules())
    sim.apply(Decision(prewarm=np.array([[2**31 - 1, 3]])))
    sim.run(5.0)
    assert sim.snapshot().idle.tolist() == [[4, 3]]
    assert sim.result().counters["refused"] >= 1


def test_hundreds_of_instances_in_one_instant_do_not_depend_on_the_first_table_size() -> None:
    # The giant leaves at 2: 300 waiting functions start at once, far beyond the 64 first slots.
    many = [model("giant", 300.0)] + [model(f"f{k}") for k in range(300)]
    calls = [(0.0, 0)] + [(0.5, 1 + k) for k in range(300)]
    sim = start(many, calls, 300.0, Rules())
    sim.state.inst = sim.state.inst[:, :4].copy()
    sim.state.inst["next"][:, -1] = -1
    sim.state.rows["free_n"] = 4
    sim.state.point()
    sim.run()
    got = sim.result().outcome.start_s
    assert got[0] == 1.0
    assert np.all(got[1:] == 3.0)


def test_evicting_hundreds_to_the_host_at_once_does_not_overrun_the_event_heap() -> None:
    many = [model("giant", 300.0)] + [model(f"f{k}") for k in range(300)]
    calls = [(0.0, 1 + k) for k in range(300)] + [(50.0, 0)]
    arrival, which = np.array([t for t, _ in calls]), np.array([f for _, f in calls], np.int32)
    workload = Workload(arrival, which, tuple(f.name for f in many), 1e3)
    made = Cluster(Node((Gpu(300.0),), host_gib=300.0), tuple(many))
    sim = Simulation([made], [workload], Rules())
    sim.apply(Decision(host_keep_alive_s=np.full((1, 301), 7.0)))
    sim.run(51.0)
    assert sim.state.rows[0]["heap_n"] <= sim.state.heap.shape[1]
    assert sim.snapshot().on_host.sum() == 300
    sim.run(58.0)
    assert sim.snapshot().on_host.sum() == 0


def test_refusals_in_the_warm_up_do_not_count_against_the_slo() -> None:
    rules = Rules(scale_out="per_request", overload="drop")
    two = [model("a", alpha_s=20.0), model("b", slo_s=100.0)]
    sim = start(two, [(0.0, 0), (1.0, 1), (2.0, 1), (60.0, 1)], 1.0, rules, warmup_s=50.0)
    sim.run()
    assert sim.result().outcome.tier.tolist() == [1, 2, 2, 1]
    assert sim.result().slo_attainment == 1.0


def test_a_result_does_not_change_when_the_simulation_goes_on() -> None:
    sim = start([model("a")], [(0.0, 0), (10.0, 0)], 1.0, Rules())
    sim.run(5.0)
    early = sim.result().outcome
    sim.run()
    assert math.isnan(early.start_s[1])
    assert math.isnan(early.finish_s[1])


def test_time_does_not_run_backwards() -> None:
    sim = start([model("a")], [(0.0, 0)], 1.0, Rules())
    sim.run(50.0)
    sim.run(20.0)
    assert sim.snapshot().now_s.tolist() == [50.0]


def test_rounding_to_a_grid_never_schedules_the_past() -> None:
    # The load ends off the grid, at 10/27 s; the batch of no length after it rounds down, to 0.370.
    calls = (np.array([0.0, 5.0]), np.array([0, 0], np.int32))
    made = Cluster(Node((Gpu(4.0),), disk=Link(2.7)), (model("a", runtime_s=0.0, alpha_s=0.0),))
    rules = Rules(time_quantum_s=0.001)
    sim = Simulation([made], [Workload(*calls, ("a",), 9.0)], rules)
    sim.run()
    out = sim.result().outcome
    assert out.start_s[0] == pytest.approx(10.0 / 27.0)
    assert np.all(out.finish_s >= out.start_s)
    assert sim.state.fn[0, 0]["acc_gib_s"] == pytest.approx(9.0)  # 1 GiB from 0 to the horizon


def test_orders_are_clipped_to_what_can_be_carried_out_and_counted_a_function() -> None:
    limits = np.array([[4, 1]])
    asked = Decision(
        keep_alive_s=np.array([[math.nan, -3.0]]),
        max_batch=np.array([[9, 1]]),
        min_batch=np.array([[0, 1]]),
        eviction_score=np.array([[math.nan, math.inf]]),
        prewarm_after_s=np.array([[math.inf, 2.0]]),
    )
    legal, clipped = legalize(asked, Capabilities(), limits)
    assert legal.keep_alive_s is not None
    assert legal.keep_alive_s.tolist() == [[0.0, 0.0]]
    assert np.asarray(legal.max_batch).tolist() == [[4, 1]]
    assert np.asarray(legal.min_batch).tolist() == [[1, 1]]
    assert np.asarray(legal.eviction_score).tolist() == [[0.0, math.inf]]
    assert clipped.tolist() == [[4, 1]]


def test_a_backend_without_a_host_tier_or_prewarm_is_not_asked_for_them() -> None:
    without = Capabilities(host_tier=False, prewarm=False)
    ones = np.ones((1, 1))
    asked = Decision(
        host_keep_alive_s=ones, prewarm=ones.astype(int), prewarm_host=ones.astype(int),
        prewarm_after_s=ones,
    )  # fmt: skip
    legal, clipped = legalize(asked, without, np.array([[1]]))
    assert np.asarray(legal.host_keep_alive_s).tolist() == [[0.0]]
    assert np.asarray(legal.prewarm).tolist() == [[0]]
    assert np.asarray(legal.prewarm_host).tolist() == [[0]]
    assert np.asarray(legal.prewarm_after_s).tolist() == [[math.inf]]
    assert clipped.tolist() == [[4]]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"eviction": "random"}, "rules.eviction"),
        ({"scale_out": "per_request"}, "rules.overload"),
        ({"eviction": "score", "eviction_need": "full"}, "rules.eviction"),
        ({"params": {"slow_decay": 0.0}}, "rules.params.slow_decay"),
        ({"params": {"hybrid_minute_s": 0.0}}, "rules.params.hybrid_minute_s"),
        ({"params": {"nonsense": 1.0}}, "rules.params.nonsense"),
        ({"time_quantum_s": -1.0}, "rules.time_quantum_s"),
    ],
)
def test_rules_that_cannot_be_followed_name_the_field(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(SpecError) as caught:
        Rules(**changes)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_the_page_of_rules_names_every_choice_number_and_preset() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "rules.md").read_text()
    for field, choices in CHOICES.items():
        if field.startswith("rules."):
            assert f"`{field.removeprefix('rules.')}`" in page
            assert [c for c in choices if f"`{c}`" not in page] == []
    assert [name for name in (*DEFAULTS, *PRESETS) if f"`{name}`" not in page] == []


def test_a_row_that_ran_out_of_slots_at_a_decision_grows_once_and_pauses() -> None:
    rules = Rules(eviction="hazard", plan="hazard")
    sim = start([model("a")], [(0.0, 0), (50.0, 0)], 4.0, rules)
    sim.state.rows["pause"] = 1
    assert sim.run().tolist() == [engine.PAUSED]
    slots, sim.pending.scale[:] = sim.state.inst.shape[1], 0.0
    sim.state.rows["status"] = engine.FULL_INSTANCES  # as if the same event had taken the last slot
    sim.state.rows["free_n"], sim.state.rows["free_head"] = 0, -1
    assert sim.run().tolist() == [engine.PAUSED]
    assert sim.state.inst.shape[1] == 2 * slots
    assert sim.pending.scale[0] == pytest.approx(1.0)  # described: the start-up takes a second
