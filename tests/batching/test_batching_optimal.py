"""What value iteration and the clairvoyant dynamic program predict is what the environment pays."""

import numpy as np
import pytest
from one_model import Fixed, PoissonProblems, model

from stoker.baselines.batch_policy import DROP, WAIT, BatchPolicy, play, run_up_to
from stoker.baselines.bounds.batching_dp import best_plan, most_on_time
from stoker.baselines.smdp_batching import PoissonBatching, SmdpBatching
from stoker.envs.batching import BatchingFunctionRows
from stoker.envs.cluster.errors import SpecError

ON_TIME_ALONE = {"wait": 0.0, "busy": 0.0}
QUANTILE = 3.29  # two-sided 99.9 % of the normal distribution


class RunAll(BatchPolicy):
    """Run whatever waits as soon as the GPU is free."""

    def act(self, due):
        return run_up_to(due, due.max_batch)


class Planned(BatchPolicy):
    """Play a clairvoyant plan: its batches, and no other request."""

    def __init__(self, batches):
        self.batches = list(batches)
        self.next = 0  # request that heads the queue

    def act(self, due):
        if not self.batches:
            self.next += 1
            return np.array([DROP])
        first, size = self.batches[0]
        if self.next < first:
            self.next += 1
            return np.array([DROP])
        if due.queued[0] < size:
            return np.array([WAIT])
        del self.batches[0]
        self.next += size
        return run_up_to(due, np.array([size]))


PROBLEMS = [
    PoissonBatching(0.6, 1.0, 0.2, (1, 2, 4, 8), slo_s=2.0, wait_cost=1.0, busy_cost=8.0),
    PoissonBatching(1.5, 1.0, 0.25, (1, 2, 3, 4, 5, 6), slo_s=4.0, wait_cost=1.0, busy_cost=0.5),
]


def rates(problem, policy, *, rows=64, horizon_s=3000.0):
    """Mean cost a second of each row. Shape: (B,)"""
    served = model(alpha_s=problem.alpha_s, beta_s=problem.beta_s, max_batch=problem.sizes[-1],
                   slo_s=problem.slo_s)  # fmt: skip
    weights = {"wait": problem.wait_cost, "busy": problem.busy_cost, "late": 0.0}
    env = BatchingFunctionRows(rows, PoissonProblems(problem.rate_hz, served, horizon_s),
                               sizes=problem.sizes, wait_share=np.inf, weights=weights)  # fmt: skip
    env.reset(seed=11)
    cost, over = np.zeros(rows), np.zeros(rows, bool)
    while not over.all():
        _, rewards, _, ended, _ = env.step(policy.act(env.due))
        cost -= np.where(over, 0.0, rewards)
        over |= ended
    return cost / horizon_s


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_optimal_policy_pays_what_value_iteration_predicts(problem):
    policy = SmdpBatching(problem)
    found = rates(problem, policy)
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - policy.average_cost) < QUANTILE * error
    assert error < 0.01 * policy.average_cost


@pytest.mark.parametrize("problem", PROBLEMS)
def test_running_all_pays_what_the_model_says_and_not_less_than_the_optimum(problem):
    runs = np.minimum(np.arange(problem.longest + 1), problem.sizes[-1])
    predicted = problem.average_cost(runs)
    found = rates(problem, RunAll())
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - predicted) < QUANTILE * error
    assert predicted >= problem.solve()[0] * (1.0 - 1e-9)


def test_with_dear_gpu_time_the_optimum_waits_for_a_batch_and_is_better_than_running_all():
    least, runs = PROBLEMS[0].solve()
    limit = int(np.argmax(runs > 0))
    assert limit >= 3  # a control limit: wait below it, run above it
    assert (runs[limit:] > 0).all()
    always = np.minimum(np.arange(PROBLEMS[0].longest + 1), 8)
    assert least < 0.9 * PROBLEMS[0].average_cost(always)


def test_batches_of_one_are_the_queue_with_fixed_service_times():
    problem = PoissonBatching(0.5, 0.75, 0.25, (1,), wait_cost=1.0, busy_cost=0.5)
    waiting = 0.5**2 / (2.0 * (1.0 - 0.5))  # Pollaczek-Khinchine, requests that wait
    least, runs = problem.solve()
    assert least == pytest.approx(waiting + 0.5 * 0.5, rel=1e-7)
    assert problem.average_cost(runs) == pytest.approx(least, rel=1e-7)


def test_a_rate_beyond_the_throughput_is_refused():
    with pytest.raises(SpecError, match="rate_hz"):
        PoissonBatching(4.0, 1.0, 0.2, (1, 2))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("sizes", [(1, 2, 3, 4, 5, 6), (1, 2, 4)])
def test_the_clairvoyant_plan_pays_what_the_dynamic_program_says(seed, sizes):
    rng = np.random.default_rng(seed)
    beta_s, slo_s = float(rng.uniform(0.1, 0.5)), float(rng.uniform(2.0, 6.0))
    spec = {"alpha_s": 0.8, "beta_s": beta_s, "slo_s": slo_s}
    arrivals = np.cumsum(rng.gamma(0.25, 4.0 * rng.uniform(0.3, 0.7), 80))
    batches = best_plan(arrivals, sizes=sizes, **spec)
    planned = sum(size for _, size in batches)
    if sizes == (1, 2, 3, 4, 5, 6):
        assert planned == most_on_time(arrivals, max_batch=6, **spec)
    served = (model(max_batch=6, **spec),)
    problem = Fixed(tuple(arrivals), models=served, horizon_s=arrivals[-1] + 50.0)
    env = BatchingFunctionRows(1, problem, sizes=sizes, wait_share=np.inf, weights=ON_TIME_ALONE)
    cost = play(env, Planned(batches), 1, 0)[0] * len(arrivals)
    assert cost == pytest.approx(len(arrivals) - planned, abs=1e-9)


def test_no_policy_beats_the_clairvoyant_plan():
    rng = np.random.default_rng(3)
    arrivals = np.cumsum(rng.gamma(0.25, 1.4, 200))
    spec = {"alpha_s": 0.8, "beta_s": 0.2, "slo_s": 3.0}
    best = most_on_time(arrivals, max_batch=8, **spec)
    served = (model(max_batch=8, **spec),)
    problem = Fixed(tuple(arrivals), models=served, horizon_s=arrivals[-1] + 50.0)
    env = BatchingFunctionRows(1, problem, weights=ON_TIME_ALONE)
    assert play(env, RunAll(), 1, 0)[0] * 200 >= 200 - best
