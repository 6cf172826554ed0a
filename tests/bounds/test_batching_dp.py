import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from stoker.baselines.bounds.batching_dp import best_plan, most_on_time


def brute_force(
    arrivals: list[float], alpha_s: float, beta_s: float, sizes: Sequence[int], slo_s: float
) -> int:
    """Try every next batch of any remaining requests, in any order."""

    def best(now: float, left: tuple[float, ...]) -> int:
        top = 0
        for size in (s for s in sizes if s <= len(left)):
            for batch in set(itertools.combinations(left, size)):
                end = max(now, *batch) + alpha_s + beta_s * size
                if end <= min(batch) + slo_s:
                    rest = list(left)
                    for a in batch:
                        rest.remove(a)
                    top = max(top, size + best(end, tuple(rest)))
        return top

    return best(-np.inf, tuple(arrivals))


@pytest.mark.parametrize("seed", range(40))
def test_it_equals_trying_everything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Multiples of 1/8 are exact, so that both sides agree on what is just in time.
    arrivals = np.sort(rng.integers(0, 40, int(rng.integers(1, 7)))) / 8.0
    alpha_s, beta_s = rng.integers(0, 9) / 8.0, rng.integers(1, 5) / 8.0
    slo_s, max_batch = rng.integers(4, 24) / 8.0, int(rng.integers(1, 5))
    found = most_on_time(arrivals, alpha_s=alpha_s, beta_s=beta_s, max_batch=max_batch, slo_s=slo_s)
    sizes = range(1, max_batch + 1)
    assert found == brute_force(list(arrivals), alpha_s, beta_s, sizes, slo_s)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("sizes", [(1, 2, 3), (1, 2, 4), (2, 3), (3,)])
def test_the_plan_equals_trying_everything_and_can_be_carried_out(
    seed: int, sizes: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.integers(0, 40, int(rng.integers(1, 7)))) / 8.0
    alpha_s, beta_s = rng.integers(0, 9) / 8.0, rng.integers(1, 5) / 8.0
    slo_s = rng.integers(4, 24) / 8.0
    plan = best_plan(arrivals, alpha_s=alpha_s, beta_s=beta_s, sizes=sizes, slo_s=slo_s)
    best = brute_force(list(arrivals), alpha_s, beta_s, sizes, slo_s)
    assert sum(size for _, size in plan) == best
    free, reached = -np.inf, 0
    for first, size in plan:
        assert size in sizes and first >= reached
        free = max(free, arrivals[first + size - 1]) + alpha_s + beta_s * size
        assert free <= arrivals[first] + slo_s
        reached = first + size


def test_one_batch_serves_two_only_if_the_first_can_wait_for_the_second() -> None:
    arrivals = np.array([0.0, 1.0])
    assert most_on_time(arrivals, alpha_s=2.0, beta_s=0.5, max_batch=2, slo_s=4.0) == 2
    assert most_on_time(arrivals, alpha_s=2.0, beta_s=0.5, max_batch=2, slo_s=3.75) == 1


def test_nothing_is_on_time_below_the_service_time() -> None:
    assert most_on_time(np.arange(5.0), alpha_s=1.0, beta_s=1.0, max_batch=4, slo_s=1.5) == 0
    assert most_on_time(np.zeros(0), alpha_s=1.0, beta_s=1.0, max_batch=4, slo_s=1.5) == 0
