"""FaasCache's published curves (ASPLOS 2021), by its own functions and arrivals of ours.

The paper's representative day has 392 functions of the Azure trace of 2019 and 1,348,162 calls. Its
function table is at hand, its arrivals are not: the calls of a function are put into minutes at
random, and evenly into their minute as the paper's trace builder does. Cold starts of the paper:
published_392b_curves.csv. docs/effects.md has the figures side by side.  Units: seconds, MB.
"""

import functools

import numpy as np
import pytest
from oracle_cases import needs_oracles, rows

from stoker.envs.cluster import replay

pytestmark = needs_oracles
MINUTES = 1440
ALL = ("greedy_dual", "ttl", "lru", "size", "freq")


@functools.cache
def functions() -> tuple[np.ndarray, ...]:
    """Memory, warm service time, start-up time and calls a day. Shape: (392,)"""
    table = rows("published_392b_functions.csv")
    columns = ("memory_mb", "warm_ms", "cold_total_ms", "invocations_in_day")
    memory, warm, cold, calls = (np.array([float(r[name]) for r in table]) for name in columns)
    return memory, warm / 1e3, (cold - warm) / 1e3, calls.astype(int)


@functools.cache
def day() -> tuple[np.ndarray, np.ndarray]:
    """Arrival times and functions of one day. Shape: (N,)"""
    rng = np.random.default_rng(392)
    arrival, function = [], []
    for f, calls in enumerate(functions()[3].tolist()):
        counts = np.bincount(rng.integers(0, MINUTES, calls), minlength=MINUTES)
        within = np.concatenate([np.arange(n) / n for n in counts.tolist() if n])
        arrival.append(60.0 * (np.repeat(np.arange(MINUTES), counts) + within))
        function.append(np.full(calls, f, np.int32))
    times, which = np.concatenate(arrival), np.concatenate(function)
    order = np.argsort(times, kind="stable")
    return times[order], which[order]


@functools.cache
def served(policy: str, capacity_mb: float) -> tuple[int, float, float]:
    """Cold starts, their start-up time and the share of calls that are refused."""
    memory, warm, init, _ = functions()
    arrival, which = day()
    out = replay.function_cache(arrival, which, memory, warm, init, capacity_mb, policy).outcome
    return int((out == 1).sum()), float(init[which[out == 1]].sum()), float(np.mean(out == 2))


def published(policy: str, capacity_mb: float, column: str) -> float:
    return next(
        float(r[column])
        for r in rows("published_392b_curves.csv")
        if r["policy"] == policy and float(r["memory_mb"]) == capacity_mb
    )


def ratio(capacity_mb: float, which: int) -> float:
    """What a TTL of ten minutes has over greedy-dual: 0 = cold starts, 1 = their start-up time."""
    return served("ttl", capacity_mb)[which] / served("greedy_dual", capacity_mb)[which]


@pytest.mark.parametrize(
    ("capacity_mb", "theirs", "least", "most"),
    [(30000, 4.76, 2.0, 12.0), (40000, 7.60, 15.0, 25.0)],
)
def test_e1_greedy_dual_saves_start_up_time_over_a_ttl(
    capacity_mb: float, theirs: float, least: float, most: float
) -> None:
    # Here, over five seeds: 2.9 to 10.6 at 30 GB, 20 to 23 at 40 GB.
    init = [published(p, capacity_mb, "init_time_s") for p in ("TTL", "GD")]
    assert init[0] / init[1] == pytest.approx(theirs, abs=0.01)
    assert least < ratio(capacity_mb, 1) < most


def test_e1_is_reproduced_in_part_only_where_memory_is_short() -> None:
    # Paper: 3.4 times less start-up time at 15 and 20 GB, and 1.9 and 1.6 times fewer cold starts.
    # Here: 1.3 to 1.9 times less, by 4 to 5 times more cold starts, of functions cheap to start.
    for capacity_mb in (15000, 20000):
        assert 1.2 < ratio(capacity_mb, 1) < 3.4
        assert ratio(capacity_mb, 0) < 1.0


def test_e2_a_ttl_stays_flat_beyond_its_working_set() -> None:
    # Paper: 14,020 cold starts from 40 GB on, 1,273 under policies that conserve resources.
    flat = [served("ttl", c)[0] for c in (50000.0, 60000.0, 1e6)]
    assert len(set(flat)) == 1
    assert served("ttl", 40000.0)[0] == pytest.approx(flat[0], rel=0.01)
    assert {served(p, 60000.0)[0] for p in ALL if p != "ttl"} == {served("lru", 1e6)[0]}
    assert 8.0 < flat[0] / served("greedy_dual", 60000.0)[0] < 20.0  # theirs: 11.0


def test_e3_refusals_where_memory_is_short_hardly_depend_on_the_policy() -> None:
    # Paper: 69.0 to 69.2 % at 1 GB, 0.0114 % at 15 GB, none from 20 GB on.
    at_1_gb = [served(p, 1000.0)[2] for p in ALL]
    assert max(at_1_gb) - min(at_1_gb) < 0.005
    assert np.mean(at_1_gb) == pytest.approx(0.69, abs=0.02)
    assert all(1e-5 < served(p, 15000.0)[2] < 1e-3 for p in ALL)
    assert all(served(p, 20000.0)[2] < 1e-5 for p in ALL)


def test_e4_greedy_dual_does_not_always_have_the_fewest_cold_starts() -> None:
    # Paper: LRU has 0.90 of its cold starts at 50 GB, and greedy-dual's own overhead is not
    # monotone in memory, between 15 and 20 GB. Here: 0.76 to 0.95 at 10 to 30 GB, over five seeds.
    assert published("LRU", 50000.0, "cold_starts") < published("GD", 50000.0, "cold_starts")
    for capacity_mb in (15000.0, 20000.0, 30000.0):
        assert served("lru", capacity_mb)[0] < 0.96 * served("greedy_dual", capacity_mb)[0]
    init = [served("greedy_dual", capacity_mb)[1] for capacity_mb in (10000.0, 15000.0, 20000.0)]
    assert init != sorted(init, reverse=True)
