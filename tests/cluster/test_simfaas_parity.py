"""The cache preset `simfaas` against SimFaaS 0.2.2 and against closed forms.

Units: seconds, 1/s.
"""

import math
import zlib

import numpy as np
import pytest
from oracle_cases import Row, needs_oracles, rows
from oracle_cases import trace as read_trace

from stoker.envs.cluster import replay
from stoker.envs.cluster.replay import CacheReplay

TRACE_ROWS = rows("simfaas_trace_ttl.csv")
STEADY_ROWS = rows("simfaas_steady_state.csv")
MOST_REQUESTS = 240_000


def steady(
    rate: float, warm_s: float, cold_s: float, ttl_s: float, most: int, n: int, seed: int
) -> CacheReplay:
    """Poisson arrivals, exponential service; a cold request is busy for `cold_s` on average."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1.0 / rate, n))
    service = np.stack([rng.exponential(warm_s, n), rng.exponential(cold_s, n)], axis=1)
    return replay.function_cache(
        arrival, np.zeros(n, int), [1.0], [1.0], [0.0], np.inf, policy="ttl", preset="simfaas",
        ttl_s=ttl_s, max_instances=most, service_s=service,
    )  # fmt: skip


@needs_oracles
@pytest.mark.parametrize(
    "row", TRACE_ROWS,
    ids=lambda r: f"{r['trace']}-{r['expiration_threshold_s']}-{r['function_id']}",
)  # fmt: skip
def test_cold_starts_a_function_are_those_of_simfaas_exactly(row: Row) -> None:
    t = read_trace(row["trace"])
    k = t.ids.index(row["function_id"])
    mine = t.function == k
    result = replay.function_cache(
        t.arrival_s[mine], np.zeros(mine.sum(), int), [1.0], t.warm_s[k : k + 1],
        t.init_s[k : k + 1], np.inf, policy="ttl", preset="simfaas",
        ttl_s=float(row["expiration_threshold_s"]),
    )  # fmt: skip
    assert np.count_nonzero(result.outcome == 1) == int(row["cold_starts"])
    assert np.count_nonzero(result.outcome == 0) == int(row["warm_hits"])


def within(ours: float, row: Row, name: str, ours_n: int) -> bool:
    """README: mean +- 4 sd/sqrt(runs), never tighter than 3 %; small p: +- 4 sqrt(p / requests).

    Ours is a sample too: its own error (as theirs, by the share of requests) is added. Cold
    requests are few and long: their number alone moves the mean of running instances.
    """
    mean, sd = float(row[f"{name}_mean"]), float(row[f"{name}_sd"])
    runs, theirs_n = int(row["runs"]), int(row["req_total"])
    both = math.sqrt(1.0 + theirs_n / ours_n)
    width = max(4.0 * sd / math.sqrt(runs) * both, 0.03 * mean)
    if name == "prob_cold" and mean < 0.01:
        width = max(width, 4.0 * math.sqrt(mean / theirs_n) * both)
    if name == "inst_running_count_avg":
        p, rate = float(row["prob_cold_mean"]), float(row["arrival_rate_per_s"])
        width = max(
            width, 4.0 * rate * float(row["cold_service_mean_s"]) * math.sqrt(2.0 * p / ours_n)
        )
    return abs(ours - mean) <= width


@needs_oracles
@pytest.mark.parametrize("row", STEADY_ROWS, ids=lambda r: r["case"])
def test_steady_state_is_that_of_simfaas(row: Row) -> None:
    n = min(int(row["requests_per_run"]) * int(row["runs"]), MOST_REQUESTS)
    result = steady(
        float(row["arrival_rate_per_s"]), float(row["warm_service_mean_s"]),
        float(row["cold_service_mean_s"]), float(row["expiration_threshold_s"]),
        int(row["maximum_concurrency"]), n, zlib.crc32(row["case"].encode()),
    )  # fmt: skip
    assert within(float(np.mean(result.outcome == 1)), row, "prob_cold", n)
    assert within(float(np.mean(result.outcome == 2)), row, "prob_reject", n)
    assert within(result.mean_instances, row, "inst_count_avg", n)
    assert within(result.mean_running, row, "inst_running_count_avg", n)


@pytest.mark.parametrize(("rate", "ttl_s"), [(0.001, 600.0), (0.003, 600.0), (0.01, 60.0)])
def test_at_low_load_cold_starts_and_instances_follow_the_closed_form(
    rate: float, ttl_s: float
) -> None:
    # rate x service << 1: P(cold) = exp(-rate ttl), mean instances = 1 - exp(-rate ttl).
    n = 60_000
    result = steady(rate, 0.02, 0.02, ttl_s, 1000, n, seed=7)
    p = math.exp(-rate * ttl_s)
    error = 4.0 * math.sqrt(p * (1.0 - p) / n)
    assert np.mean(result.outcome == 1) == pytest.approx(p, abs=error + rate * 0.02)
    assert result.mean_instances == pytest.approx(1.0 - p, abs=error + rate * 0.04 + 0.005)


def test_a_full_service_without_expiry_refuses_by_erlangs_formula() -> None:
    # M/M/c/c: blocking = (a^c / c!) / sum a^k / k!; a = 2, c = 2: 2 / (1 + 2 + 2) = 0.4.
    result = steady(2.0, 1.0, 1.0, 1e9, 2, 200_000, seed=11)
    assert np.mean(result.outcome == 2) == pytest.approx(0.4, abs=0.006)


@pytest.mark.parametrize("policy", ["lru", "greedy_dual", "freq", "size"])
def test_without_a_ttl_nothing_expires_on_the_fine_time_grid(policy: str) -> None:
    result = replay.function_cache(
        [0.0, 100.0, 1e6], [0, 0, 0], [10.0], [1.0], [1.0], 100.0, policy=policy, preset="simfaas"
    )
    assert result.outcome.tolist() == [1, 0, 0]


def test_an_instance_whose_timer_ends_at_an_arrival_is_gone_and_one_that_ends_then_is_reused() -> (
    None
):
    def outcome(second: float) -> list[int]:
        return replay.function_cache(
            [0.0, second], [0, 0], [1.0], [0.3], [0.7], np.inf, "ttl", "simfaas", ttl_s=10.0
        ).outcome.tolist()

    assert outcome(1.0) == [1, 0]  # the cold request is done at 1.0 exactly
    assert outcome(0.9) == [1, 1]
    assert outcome(10.9) == [1, 0]
    assert outcome(11.0) == [1, 1]
