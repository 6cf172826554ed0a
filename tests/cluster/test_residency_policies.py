"""Known answers of the opponents by lead time and start-up time, and of their combination.

Units: seconds, GiB.
"""

from dataclasses import replace

import numpy as np
import pytest

from stoker.baselines.combined import Combined
from stoker.baselines.hazard import HazardIndex
from stoker.baselines.lead_time import PRIOR, LeadTime
from stoker.baselines.serverlessllm import ServerlessLlm
from stoker.envs.cluster.decision import Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.features import UNIT_EDGE
from stoker.envs.cluster.simulation import Simulation, simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node
from stoker.envs.problems import SyntheticProblems
from stoker.envs.spread_problems import SpreadProblems
from stoker.envs.workload import Workload

WARM, COLD, HOST = 0, 1, 3


def calls(functions: tuple[Function, ...], at: list[tuple[float, int]]) -> Workload:
    names = tuple(f.name for f in functions)
    when, which = np.array([t for t, _ in at]), np.array([f for _, f in at], np.int32)
    return Workload(when, which, names, 5000.0)


def seen(functions: tuple[Function, ...], **figures: object) -> Snapshot:
    """The first snapshot of a cluster with some figures in place of its own."""
    node = Node((Gpu(40.0),), host_gib=12.0, disk=Link(1.0), pcie=Link(8.0))
    sim = Simulation([Cluster(node, functions)], [calls(functions, [(1.0, 0)])])
    return replace(sim.snapshot(), **figures)  # type: ignore[arg-type]


MODEL = (Function("a", 20.0, 20.0, alpha_s=3.0),)
"""20 s from disk at 1 GiB/s, and 2.5 s over PCIe: sequential, so 22.5 s."""


def chance(age_s: float, gap_bin: int, rate_hz: float) -> float:
    gaps = np.zeros((1, 1, 72), np.float32)
    gaps[0, 0, gap_bin] = 1.0
    snapshot = seen(
        MODEL, now_s=np.array([1000.0]), last_idle_s=np.array([[1000.0 - age_s]]),
        arrivals=np.array([[5]]), gap_histogram=gaps, rate_hz=np.full((1, 1, 4), rate_hz),
    )  # fmt: skip
    policy = LeadTime(tick_s=60.0)
    policy.reset(Cluster(Node((Gpu(40.0),), disk=Link(1.0), pcie=Link(8.0)), MODEL), 1)
    return float(policy.chance(snapshot)[0, 0])


def test_the_chance_is_that_of_a_gap_that_ends_within_a_load_and_a_tick() -> None:
    # All gaps seen lie in bin 25, from 3 x 2^4.8 = 83.6 s to 3 x 2^5 = 96 s, spread evenly. The
    # lead is 22.5 + 60 = 82.5 s. At age 10 that reaches to 92.5 s: the first 72 % of the bin.
    low, high = 3.0 * UNIT_EDGE[25], 3.0 * UNIT_EDGE[26]
    assert (low, high) == (pytest.approx(83.58, abs=0.01), pytest.approx(96.0))
    part = (10.0 + 82.5 - low) / (high - low)
    assert chance(10.0, 25, 0.0) == pytest.approx(part / (1.0 + PRIOR), rel=1e-6)
    assert chance(0.0, 25, 0.0) == 0.0  # 82.5 s do not reach it
    assert chance(50.0, 25, 0.0) == pytest.approx(1.0 / (1.0 + PRIOR))


def test_beyond_all_gaps_seen_the_rate_alone_speaks() -> None:
    assert chance(200.0, 25, 0.01) == pytest.approx(1.0 - np.exp(-0.825))


def test_floors_hold_what_overlaps_and_at_least_one_where_a_call_is_likely() -> None:
    policy = LeadTime(warm=0.5, spread=1.0)
    policy.reset(Cluster(Node((Gpu(40.0),)), MODEL), 1)
    snapshot = seen(MODEL, rate_hz=np.full((1, 1, 4), 0.5))  # 0.5/s x 3 s: 1.5 overlap, sd 1.22
    assert policy.floors(snapshot, np.array([[0.6]])).tolist() == [[3]]
    assert policy.floors(snapshot, np.array([[0.4]])).tolist() == [[0]]
    quiet = seen(MODEL, rate_hz=np.full((1, 1, 4), 1e-9))
    assert policy.floors(quiet, np.array([[0.6]])).tolist() == [[1]]


def test_a_timer_is_ready_before_its_call() -> None:
    # Called every 200 s, idle instances let go (keep=1): from the third call on one is ready.
    node = Node((Gpu(40.0),), disk=Link(1.0), pcie=Link(8.0))
    at = [(100.0 + 200.0 * k, 0) for k in range(12)]
    workload = calls(MODEL, at)
    (result,) = simulate(Cluster(node, MODEL), workload, LeadTime(warm=0.3, keep=1.0))
    assert result.outcome.tier[-6:].tolist() == [WARM] * 6
    (never,) = simulate(Cluster(node, MODEL), workload, LeadTime(warm=1.0, keep=1.0))
    assert (never.outcome.tier == COLD).all()


def test_host_memory_fetches_what_saves_most_for_its_size() -> None:
    # A copy saves the disk's second a GiB: per GiB all save the same, so the rate decides. Of 12
    # GiB a takes 8; b (6) does not fit, is passed over, and c (3) is fetched though called least.
    functions = tuple(Function(n, gib, gib) for n, gib in (("a", 8.0), ("b", 6.0), ("c", 3.0)))
    node = Node((Gpu(40.0),), host_gib=12.0, disk=Link(1.0), pcie=Link(8.0))
    policy = ServerlessLlm(periods=2.0)
    policy.reset(Cluster(node, functions), 1)
    rates = np.zeros((1, 3, 4))
    rates[0, :, 3] = 0.3, 0.2, 0.1
    told = policy.decide(seen(functions, rate_hz=rates))
    assert told.prewarm_host is not None and told.host_eviction_score is not None
    assert told.keep_alive_s is not None
    assert told.prewarm_host.tolist() == [[1, 0, 1]]
    assert told.host_eviction_score == pytest.approx(np.array([[0.3, 0.2, 0.1]]))
    assert told.keep_alive_s == pytest.approx(2.0 * np.array([[9.0, 6.75, 3.375]]))


def test_a_start_comes_from_host_memory_once_the_copy_is_fetched() -> None:
    node = Node((Gpu(40.0),), host_gib=32.0, disk=Link(1.0), pcie=Link(8.0))
    workload = calls(MODEL, [(10.0, 0), (500.0, 0)])
    (result,) = simulate(Cluster(node, MODEL), workload, ServerlessLlm(periods=1.0))
    assert result.outcome.tier.tolist() == [COLD, HOST]
    assert result.outcome.start_s == pytest.approx([32.5, 502.5])


class Every(HazardIndex):
    """The hazard index, looked at every minute without a word."""

    tick_s = 60.0


def test_without_its_other_parts_the_combination_is_the_hazard_index() -> None:
    inner = SyntheticProblems(functions=8, hours=2.0, requests_per_s=0.1)
    cluster, workload = SpreadProblems(inner, dear=2).sample(np.random.default_rng(3))
    (mine,) = simulate(cluster, workload, Combined(warm=2.0, host=False, slow_decay=0.9))
    (index,) = simulate(cluster, workload, Every(slow_decay=0.9))
    assert mine.outcome.finish_s.tobytes() == index.outcome.finish_s.tobytes()
    (ready,) = simulate(cluster, workload, Combined(warm=0.3, host=False, slow_decay=0.9))
    assert ready.outcome.finish_s.tobytes() != index.outcome.finish_s.tobytes()


def test_its_batches_are_nexus_s() -> None:
    # p(b) = 1 + 0.5 b: twice that is within 12 s up to b = 10, within 5 s up to 3, never in 2 s.
    functions = tuple(
        Function(f"f{k}", 1.0, 1.0, alpha_s=1.0, beta_s=0.5, max_batch=8, slo_s=s)
        for k, s in enumerate((12.0, 5.0, 2.0))
    )
    policy = Combined(factor=2.0)
    policy.reset(Cluster(Node((Gpu(40.0),)), functions), 1)
    told = policy.decide(seen(functions)).max_batch
    assert told is not None
    assert told.tolist() == [[8, 3, 1]]


@pytest.mark.parametrize(
    ("build", "field"),
    [(lambda: LeadTime(warm=1.5), "warm"), (lambda: LeadTime(keep=-0.1), "keep"),
     (lambda: LeadTime(spread=-1.0), "spread"), (lambda: LeadTime(window_s=61.0), "window_s"),
     (lambda: LeadTime(tick_s=0.0), "tick_s"), (lambda: ServerlessLlm(periods=-1.0), "periods"),
     (lambda: ServerlessLlm(eviction="fifo"), "eviction"),
     (lambda: ServerlessLlm(window_s=1.0), "window_s"), (lambda: Combined(factor=0.5), "factor"),
     (lambda: Combined(warm=-1.0), "warm")],
)  # fmt: skip
def test_a_wrong_argument_is_named(build: object, field: str) -> None:
    with pytest.raises(SpecError, match=field):
        build()  # type: ignore[operator]
