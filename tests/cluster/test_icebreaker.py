"""IceBreaker against forecasts that can be known and utilities worked out by hand.

Units: seconds, GiB.
"""

from typing import Any

import numpy as np
import pytest

from stoker.baselines.icebreaker import (
    IceBreaker,
    classes_by_price,
    forecast,
    scaled,
    utility,
)
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Service
from stoker.envs.workload.workload import Workload

MINUTES = np.arange(60)


def dft_forecast(series: np.ndarray, harmonics: int, variant: str) -> float:
    """The extrapolation term by term: cosines of a two-sided transform, evaluated one step on."""
    n = len(series)
    degree = min(2 if variant == "paper" else 1, n - 1)
    trend = np.polynomial.Polynomial.fit(np.arange(n), series, degree)
    rest = series - trend(np.arange(n))
    waves = []
    for k in range(1, n // 2 + 1):
        c = sum(rest[t] * np.exp(-2j * np.pi * k * t / n) for t in range(n)) / n
        mirrored = 1.0 if 2 * k == n else 2.0
        waves.append((mirrored * abs(c), mirrored * abs(c) * np.cos(2 * np.pi * k + np.angle(c))))
    if variant == "paper":
        waves.sort(key=lambda wave: -wave[0])
    return float(trend(n) + sum(value for _, value in waves[:harmonics]))


@pytest.mark.parametrize("variant", ["paper", "public"])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 59, 60])
def test_the_forecast_is_that_of_cosines_summed_one_by_one(variant: str, n: int) -> None:
    calls = np.random.default_rng(n).poisson(3.0, (4, n)).astype(float)
    expected = [dft_forecast(row, 4, variant) for row in calls]
    assert forecast(calls, 4, variant) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("cycles", [1, 3, 10])
def test_a_sinusoid_without_trend_is_forecast_exactly(cycles: int) -> None:
    # Symmetric about the middle of the hour, so that no straight line is fitted to it. (A parabola
    # would take a part of it, so that the paper's trend is not exact here.)
    wave = 5.0 + 3.0 * np.cos(2 * np.pi * cycles * (np.arange(61) + 0.5) / 60)
    assert forecast(wave[None, :60], 10, "public")[0] == pytest.approx(wave[60], abs=1e-9)


@pytest.mark.parametrize(("variant", "power"), [("paper", 2), ("paper", 1), ("public", 1)])
def test_a_trend_is_extended(variant: str, power: int) -> None:
    line = 2.0 + 0.1 * np.arange(61.0) ** power
    assert forecast(line[None, :60], 10, variant)[0] == pytest.approx(line[60])


@pytest.mark.parametrize("period", [2, 3, 4, 5, 6, 10, 12, 15, 20])
def test_a_timer_is_seen_by_the_strongest_harmonics_and_not_by_the_lowest(period: int) -> None:
    # A call every `period` minutes has harmonics of equal strength at multiples of 60 / period.
    # Up to ten of them are all there are: forecast at every phase. The ten lowest frequencies hold
    # period / 6 of them at most: their sum stays below a half, and no call is ever expected.
    timer = ((MINUTES[:, None] + np.arange(61)) % period == 0).astype(float)
    foreseen = {v: np.rint(forecast(timer[:, :60], 10, v)) for v in ("paper", "public")}
    assert foreseen["paper"].tolist() == timer[:, 60].tolist()
    assert period < 6 or not foreseen["public"].any()


def test_utilities_by_hand() -> None:
    terms = np.array([[0.5, 0.1, 0.2, 0.2], [0.0, 0.0, 0.0, 0.0]])
    assert utility(terms, "paper") == pytest.approx([0.25, 0.0])
    # The sum is 1, so the weights are .5, .9, .8, .8 over 3: .25 + .09 + .16 + .16 over 3.
    assert utility(terms, "public") == pytest.approx([0.22, 0.0])
    assert scaled(np.array([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]])).tolist() == [
        [0.0, 0.25, 1.0],
        [1.0, 1.0, 1.0],
    ]


def two_classes(*functions: Function) -> Cluster:
    dear, cheap = Gpu(32.0, 4.0, kind="dear"), Gpu(32.0, 1.0, kind="cheap")
    return Cluster((Node((cheap,)), Node((dear,))), functions)


def model(name: str, gib: float, **changes: Any) -> Function:
    services = (Service("dear", 1.0), Service("cheap", 2.0))
    return Function(name, 0.0, gib, runtime_s=2.0, services=services, **changes)


class Watched(IceBreaker):
    """Keeps what it said."""

    def reset(self, cluster: Cluster, rows: int) -> None:
        super().reset(cluster, rows)
        self.said: list[Decision] = []

    def decide(self, snapshot: Snapshot) -> Decision:
        self.said.append(super().decide(snapshot))
        return self.said[-1]


def watch(calls: list[list[float]], *functions: Function, **options: Any) -> tuple[Watched, Any]:
    """Run each function's calls for an hour and a half."""
    which = np.repeat(np.arange(len(calls), dtype=np.int32), [len(c) for c in calls])
    at = np.concatenate([np.asarray(c, float) for c in calls])
    order = np.argsort(at, kind="stable")
    names = tuple(f.name for f in functions)
    workload = Workload(at[order], which[order], names, 5400.0)
    policy = Watched(**options)
    return policy, simulate(two_classes(*functions), workload, policy)[0]


def said(policy: Watched, field: str) -> np.ndarray:
    """What was said of each function at each tick. Shape: (T, F)"""
    return np.array([getattr(d, field)[0] for d in policy.said])


def test_the_classes_go_by_the_price_of_memory() -> None:
    assert classes_by_price(two_classes(model("a", 1.0))) == ("dear", "cheap")
    assert classes_by_price(Cluster(Node((Gpu(1.0),)), (model("a", 1.0),))) == ("gpu", "gpu")


def test_utility_spreads_functions_over_classes() -> None:
    # One call a minute each, always forecast: nothing is under- or over-forecast. All are twice as
    # quick on the dear class and differ in size alone: 1 - 0, 4 and 8 of 32 GiB, scaled 1, .5, 0.
    calls = [[60.0 * k + 5.0 for k in range(90)] for _ in range(3)]
    functions = model("small", 0.0), model("middle", 4.0), model("large", 8.0)
    policy, _ = watch(calls, *functions)
    dear, cheap = 1, 0  # in order of the cluster's GPUs
    assert said(policy, "gpu_class")[0].tolist() == [dear] * 3
    assert said(policy, "gpu_class")[-1].tolist() == [dear, cheap, dear]
    assert said(policy, "prewarm")[-1].tolist() == [1, 1, 0]


def test_a_timer_is_warm_once_it_is_known_and_holds_nothing_between() -> None:
    # Every ten minutes; known after some periods. The other function is there to be ranked below.
    calls = [[600.0 * k + 30.0 for k in range(9)], []]
    policy, result = watch(calls, model("timer", 4.0), model("silent", 8.0))
    assert result.outcome.tier[-1] == 0
    assert said(policy, "prewarm")[-10:, 0].sum() == 1
    assert result.bill.device_gib_s < 4.0 * 5400.0 / 6


def test_instances_follow_overlapping_calls_or_one_a_call() -> None:
    # 120 calls a minute of a second each: two overlap on average; a batch of four takes half.
    calls = [[0.5 * k for k in range(10800)]]
    for options, batch, expected in (({}, 1, 2), ({}, 4, 1), ({"variant": "public"}, 1, 120)):
        big = Function("a", 0.0, 0.1, services=(Service("dear", 1.0),), max_batch=batch)
        policy, _ = watch(calls, big, **options)
        assert said(policy, "prewarm")[-1, 0] == expected


def test_a_function_that_changes_class_lets_go_first() -> None:
    # The sizes rank `middle` on the cheap class once the forecasts are judged, at the twelfth tick.
    calls = [[60.0 * k + 5.0 for k in range(90)] for _ in range(3)]
    functions = model("small", 0.0), model("middle", 4.0), model("large", 8.0)
    policy, _ = watch(calls, *functions)
    classes, floors = said(policy, "gpu_class")[:, 1], said(policy, "prewarm")[:, 1]
    (changes,) = np.nonzero(np.diff(classes))
    assert len(changes) == 1
    assert floors[changes[0] : changes[0] + 3].tolist() == [1, 0, 1]


def test_rows_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(3)
    functions = tuple(model(f"f{k}", 1.0 + k) for k in range(5))
    names = tuple(f.name for f in functions)
    cluster = two_classes(*functions)
    loads = [
        Workload(np.sort(rng.uniform(0, 5400, 400)), rng.integers(0, 5, 400, np.int32), names, 5400)
        for _ in range(3)
    ]
    together = simulate([cluster] * 3, loads, IceBreaker())
    for load, result in zip(loads, together, strict=True):
        alone = simulate(cluster, load, IceBreaker())[0]
        assert alone.outcome.start_s.tobytes() == result.outcome.start_s.tobytes()
        assert alone.bill == result.bill


def test_a_class_that_is_too_small_is_not_asked_for() -> None:
    cluster = Cluster(
        (Node((Gpu(8.0, 1.0, kind="cheap"),)), Node((Gpu(32.0, 8.0, kind="dear"),))),
        (model("small", 4.0), model("large", 16.0)),
    )
    workload = Workload(np.array([5.0]), np.zeros(1, np.int32), ("small", "large"), 3600.0)
    policy = Watched()
    result = simulate(cluster, workload, policy)[0]
    assert result.counters["clipped"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"variant": "arima"}, "policy.variant = 'arima' is not accepted: expected paper | public"),
        ({"window": 5}, "policy.window"),
        ({"harmonics": -1}, "policy.harmonics"),
        ({"cut_low": 0.9}, "policy.cut_low"),
        ({"tick_s": 0.0}, "policy.tick_s"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        IceBreaker(**options)
    assert said in str(caught.value)
