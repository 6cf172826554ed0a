"""RainbowCake's policy against its rule worked by hand, and its layers against the closed form.

Units: seconds, GiB.
"""

import math

import numpy as np
import pytest

from stoker.baselines.base import Policy
from stoker.baselines.rainbowcake import CALLS, History, RainbowCake
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import Simulation, simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node
from stoker.envs.cluster.startup.rainbowcake import (
    ALPHA,
    QUANTILE,
    Container,
    Layer,
    bound_s,
    lifetime_s,
)
from stoker.envs.workload.workload import Workload

LN5 = -math.log1p(-QUANTILE)


def cluster() -> Cluster:
    """a and b in one runtime, c in its own; user start-ups of 4.5, 4.5 and 2.5 s."""
    shared = {"sandbox_s": 2.0, "runtime_s": 3.0, "warmup_s": 0.5, "alpha_s": 1.0}
    parked = {"runtime": "r", "runtime_gib": 0.005, "sandbox_gib": 0.001}
    return Cluster(
        Node((Gpu(100.0),), 10.0, disk=Link(1.0)),
        (
            Function("a", 4.0, 4.0, **shared, **parked),  # type: ignore[arg-type]
            Function("b", 4.0, 0.01, **shared, **parked),  # type: ignore[arg-type]
            Function("c", 2.0, 2.0, **shared),  # type: ignore[arg-type]
        ),
    )


def decided(calls: list[tuple[float, int]], at_s: float, policy: Policy) -> list[list[float]]:
    """What the policy orders at `at_s`, after a tick a second. Shape: (5, F)"""
    made = cluster()
    times, which = np.array([t for t, _ in calls]), np.array([f for _, f in calls], np.int32)
    sim = Simulation([made], [Workload(times, which, ("a", "b", "c"), 1e6)])
    policy.reset(made, 1)
    orders = policy.decide(sim.snapshot())
    for t in np.arange(1.0, at_s + 1.0):
        sim.run(t)
        orders = policy.decide(sim.snapshot())
    found = (
        orders.keep_alive_s, orders.runtime_keep_alive_s, orders.sandbox_keep_alive_s,
        orders.prewarm_after_s, orders.prewarm_keep_s,
    )  # fmt: skip
    return [np.asarray(values)[0].tolist() for values in found]


def test_lifetimes_are_those_of_the_rule() -> None:
    # a at 0.5, 100.5, ..., 700.5: the last six span 500 s, 500 / 6 a gap. b at 350.5, 650.5: 150.
    # Of runtime r the last six are 400.5, 500.5, 600.5, 650.5, 700.5 and 350.5: 350 / 6 a gap.
    # c at 660.5 and 680.5, 10 a gap: with it everyone's last six are 500.5 to 700.5, 200 / 6.
    calls = sorted(
        [(100.0 * k + 0.5, 0) for k in range(8)] + [(350.5, 1), (650.5, 1), (660.5, 2), (680.5, 2)]
    )
    user, lang, bare, after, keep = decided(calls, 702.0, RainbowCake())
    own = [lifetime_s(500.0 / 6.0, 4.5, 4.0), lifetime_s(150.0, 4.5, 0.01)]
    assert own[0] == pytest.approx(249.0 * 4.5 / 4096.0)  # the bound
    assert own[1] == pytest.approx(249.0 * 4.5 / 10.24)  # the bound again: 109.4 < 241
    assert user == pytest.approx([*own, 60.0])  # 16 s are below the floor
    r = lifetime_s(350.0 / 6.0, 3.0, 0.005)
    assert r == pytest.approx(LN5 * 350.0 / 6.0)  # the quantile: 93.9 < 145.9
    assert lang == pytest.approx([r, r, 0.0])  # c has no process to park
    assert bare == pytest.approx([60.0, 60.0, 0.0])  # everyone's 53.6 s are below the floor
    assert after == pytest.approx([LN5 * 500.0 / 6.0, LN5 * 150.0, math.inf])
    assert keep == user


def test_no_floor_is_the_closed_form() -> None:
    calls = [(10.0 * k + 0.5, 2) for k in range(9)]
    user = decided(calls, 90.0, RainbowCake(floor_s=0.0))[0]
    assert user[2] == pytest.approx(lifetime_s(50.0 / 6.0, 2.5, 2.0))
    assert bound_s(2.5, 2.0, ALPHA) == pytest.approx(user[2])


def test_before_any_call_and_a_day_after_the_last_the_default_stands() -> None:
    assert decided([(50.0, 0)], 10.0, RainbowCake())[0] == [600.0] * 3
    policy = RainbowCake(window_s=100.0)
    assert decided([(50.0, 0)], 60.0, policy)[0] == [60.0, 600.0, 600.0]
    assert decided([(50.0, 0)], 160.0, policy)[0] == [600.0] * 3


def reference(times: list[float], now: float, window: float) -> float:
    last = [t for t in sorted(times)[-CALLS:] if t > now - window]
    return (last[-1] - last[0]) / len(last) if last else math.nan


@pytest.mark.parametrize("seed", range(5))
def test_a_history_remembers_the_last_calls_of_each_group(seed: int) -> None:
    # At most one call of a group a tick, so that nothing has to be spread.
    rng = np.random.default_rng(seed)
    groups, rows, window = ["x", "y", "x", "z"], 3, 40.0
    history = History(rows, groups)
    called: list[list[list[float]]] = [[[] for _ in groups] for _ in range(rows)]
    last = np.full((rows, 4), -np.inf)
    for tick in range(1, 60):
        calls = np.zeros((rows, 4), np.int64)
        for k in range(rows):
            for group in ("x", "y", "z"):
                if rng.random() < 0.4:
                    f = int(rng.choice(np.flatnonzero(np.array(groups) == group)))
                    t = tick - float(rng.random())
                    calls[k, f], last[k, f] = 1, t
                    called[k][f].append(t)
        history.add(calls, last, np.full(rows, tick - 1.0))
        found = history.mean_gap_s(np.full(rows, float(tick)), window)
        for k in range(rows):
            for f, group in enumerate(groups):
                times = [t for g in range(4) if groups[g] == group for t in called[k][g]]
                expected = reference(times, tick, window)
                assert found[k, f] == pytest.approx(expected, nan_ok=True)


def test_calls_between_two_ticks_are_spread_evenly() -> None:
    history = History(1, ["x"])
    history.add(np.array([[4]]), np.array([[9.0]]), np.array([1.0]))
    assert history.mean_gap_s(np.array([10.0]), 100.0).tolist() == [[6.0 / 4.0]]  # 3, 5, 7, 9
    history.add(np.array([[50]]), np.array([[20.0]]), np.array([10.0]))
    assert history.mean_gap_s(np.array([20.0]), 100.0) == pytest.approx(np.array([[1.0 / 6.0]]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("quantile", 1.0), ("odds", -1.0), ("floor_s", math.inf), ("tick_s", 0.0), ("window_s", 0.0)],
)
def test_a_bad_argument_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(SpecError, match=rf"policy\.{name}"):
        RainbowCake(**{name: value})  # type: ignore[arg-type]


class Lifetimes(Policy):
    """The same three lifetimes for every function."""

    tick_s = math.inf

    def __init__(self, user_s: float, lang_s: float, bare_s: float) -> None:
        self.lifetimes_s = user_s, lang_s, bare_s

    def decide(self, snapshot: Snapshot) -> Decision:
        """Give them."""
        user, lang, bare = (np.full(snapshot.idle.shape, s) for s in self.lifetimes_s)
        return Decision(keep_alive_s=user, runtime_keep_alive_s=lang, sandbox_keep_alive_s=bare)


@pytest.mark.parametrize("lifetimes_s", [(20.0, 40.0, 100.0), (0.0, 30.0, 0.0), (5.0, 0.0, 60.0)])
def test_start_up_and_idle_memory_are_the_closed_form_s(lifetimes_s: tuple[float, ...]) -> None:
    # Exponential gaps from the end of a service to the next call; 20,000 of them.
    mean_s, service_s, calls = 50.0, 1.0, 20_000
    one = Function(
        "a", 4.0, 4.0, runtime_s=3.0, warmup_s=0.5, alpha_s=service_s, sandbox_s=2.0,
        runtime_gib=1.5, sandbox_gib=0.25,
    )  # fmt: skip
    made = Cluster(Node((Gpu(4.0),), 2.0, disk=Link(1.0)), (one,))
    layers = ((4.5, 4.0), (3.0, 1.5), (2.0, 0.25))
    kept = zip(layers, lifetimes_s, strict=True)
    box = Container(*(Layer(startup, gib, life) for (startup, gib), life in kept))
    gaps = np.random.default_rng(11).exponential(mean_s, calls)
    startup = np.array([9.5, *(box.startup_s(float(gap)) for gap in gaps)])
    arrival = np.cumsum([0.0, *(startup[:-1] + service_s + gaps)])
    workload = Workload(arrival, np.zeros(calls + 1, np.int32), ("a",), float(arrival[-1]) + 10.6)
    result = simulate(made, workload, Lifetimes(*lifetimes_s))[0]
    waits = result.outcome.start_s - arrival
    assert waits[:-1] == pytest.approx(startup[:-1], abs=1e-6)
    assert waits[1:].mean() == pytest.approx(box.expected_startup_s(mean_s), rel=0.02)
    # what is held while it idles: all that is held, less what starts and serves hold
    on_device = np.where(startup > 0.0, startup, 0.0).sum() + service_s * (calls + 1)
    idle = result.bill.device_gib_s - 4.0 * on_device + result.bill.host_gib_s
    assert idle / calls == pytest.approx(box.expected_gib_s(mean_s), rel=0.02)
