"""Each opponent does what its paper says, by hand."""

import numpy as np
import pytest
from one_model import Fixed, model

from stoker.baselines.batch import Batch, forecast
from stoker.baselines.batch_policy import DROP, WAIT, play
from stoker.baselines.clipper import Clipper
from stoker.baselines.nexus import Nexus
from stoker.baselines.triton import Triton
from stoker.envs.batching import BatchingFunctionRows
from stoker.envs.cluster.batch_due import PLACES, Due
from stoker.envs.cluster.batching import RUN
from stoker.envs.cluster.errors import SpecError

RUN_1, RUN_2, RUN_4, RUN_8 = RUN, RUN + 1, RUN + 2, RUN + 3


def due(deadlines_s, *, now_s=0.0, max_batch=8, ran_s=0.0):
    """One row that asks about function 0: p(b) = 1 + b / 2, target 6."""
    places = np.full((1, PLACES), np.inf)
    places[0, : len(deadlines_s)] = deadlines_s
    figures = np.array([[now_s, 1.0, 0.5, 6.0, ran_s]])
    queue = np.array([[len(deadlines_s), max_batch, 0, 1]])
    return Due(np.zeros(1, np.int64), figures, queue, places, np.array([1, 2, 4, 8]))


def test_nexus_aims_at_the_batch_that_takes_half_the_target_and_runs_it_if_in_time():
    # 2 x (1 + b / 2) <= 6 for b <= 4, which takes 3 s
    assert Nexus().act(due([3.0, 4.0, 5.0, 6.0, 6.0])) == RUN_4
    assert Nexus(factor=3.0).act(due([3.0, 4.0, 5.0, 6.0, 6.0])) == RUN_2


def test_nexus_refuses_the_head_that_would_make_the_window_late_though_it_could_run_alone():
    assert Nexus().act(due([2.9, 4.0, 5.0, 6.0, 6.0])) == DROP  # alone it would end at 1.5
    assert Nexus().act(due([2.9, 4.0, 5.0])) == RUN_4  # three wait: the window takes 2.5 s
    assert Nexus().act(due([1.0])) == DROP


def test_clipper_adds_one_after_a_batch_in_time_and_takes_a_tenth_off_after_a_late_one():
    policy = Clipper()
    policy.reset(1, 1)
    waiting = [9.0] * 40
    for limit in (1.0, 2.0, 3.0):
        policy.act(due(waiting, max_batch=32, ran_s=6.0))
        assert policy.limit[0, 0] == limit
    policy.limit[0, 0] = 20.0
    policy.act(due(waiting, max_batch=32, ran_s=6.1))
    assert policy.limit[0, 0] == pytest.approx(18.0)
    policy.act(due([9.0], max_batch=32, ran_s=1.0))  # the last one was full
    assert policy.limit[0, 0] == pytest.approx(19.0)
    policy.act(due([9.0], max_batch=32, ran_s=1.0))  # this one was not
    assert policy.limit[0, 0] == pytest.approx(19.0)


def test_clipper_delays_a_small_batch():
    policy = Clipper(delay=0.1)
    policy.reset(1, 1)
    policy.limit[:] = 4.0
    assert policy.act(due([6.0], now_s=0.5)) == WAIT
    assert policy.act(due([6.0], now_s=0.61)) == RUN_1
    assert policy.act(due([6.0] * 4, now_s=0.0)) == RUN_4


def test_triton_waits_for_its_size_up_to_its_delay():
    assert Triton(preferred=4, delay=0.5).act(due([6.0] * 3, now_s=2.9)) == WAIT
    assert Triton(preferred=4, delay=0.5).act(due([6.0] * 3, now_s=3.0)) == RUN_4
    assert Triton(preferred=4, delay=0.5).act(due([6.0] * 5, now_s=0.0)) == RUN_8
    assert Triton().act(due([6.0], now_s=0.0)) == RUN_1


@pytest.mark.parametrize("rate", [2.0, 12.0])
@pytest.mark.parametrize(("size", "timeout"), [(1, 0.0), (2, 0.3), (4, 0.4), (8, 0.7), (4, 0.0)])
def test_the_model_of_batch_agrees_with_drawn_arrivals(rate, size, timeout):
    alpha, beta = 0.2, 0.05
    share, work, mean = (x[0] for x in forecast(rate, alpha, beta, size, np.array([timeout])))
    rng = np.random.default_rng(1)
    gaps = rng.exponential(1.0 / rate, (200_000, max(size - 1, 1)))
    after = np.cumsum(gaps, axis=1) if size > 1 else np.full((200_000, 1), np.inf)
    joins = after <= timeout
    batch = 1 + joins.sum(axis=1)
    starts = np.where(batch == size, after[:, size - 2] if size > 1 else 0.0, timeout)
    takes = alpha + beta * batch
    first = starts + takes <= 1.0
    others = joins & (starts[:, None] - after + takes[:, None] <= 1.0)
    on_time = first + others.sum(axis=1)
    assert mean == pytest.approx(batch.mean(), rel=0.01)
    assert work == pytest.approx(takes.mean() / batch.mean(), rel=0.01)
    assert share == pytest.approx(on_time.mean() / batch.mean(), abs=0.005)


def test_batch_takes_larger_batches_at_higher_rates_and_none_that_would_be_late():
    policy, sizes = Batch(), np.array([1, 2, 4, 8])
    slow, fast = policy.choose(1.0, 0.1, 0.02, sizes), policy.choose(50.0, 0.01, 0.01, sizes)
    assert fast[0] == 8
    assert slow[1] <= 1.0 - 0.12  # the first request of a batch is in time
    # p(2) = 1.05: a full batch would be late, so everything runs alone
    assert Batch(percentile=1.0).choose(0.5, 0.55, 0.25, np.array([1, 2])) == (1, 0.0)


@pytest.mark.parametrize("policy", [Nexus(), Clipper(), Triton(), Batch()])
def test_opponents_play_in_several_functions_and_rows(policy):
    models = (model("a"), model("b", alpha_s=0.5, slo_s=2.0))
    arrivals = np.arange(60) * 0.4
    problem = Fixed(tuple(arrivals), (0, 1) * 30, models, horizon_s=60.0)
    cost = play(BatchingFunctionRows(2, problem), policy, 2, 0)
    assert cost[0] == cost[1]
    assert 0.0 < cost[0] < 1.5


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Nexus, "factor", 0.5), (Clipper, "step", 0.0), (Clipper, "backoff", 1.0),
        (Clipper, "delay", -1.0), (Clipper, "share", 0.0), (Triton, "preferred", 0),
        (Triton, "delay", -0.1), (Batch, "percentile", 0.0), (Batch, "use", 0.0),
    ],
)  # fmt: skip
def test_bad_settings_are_named(kind, name, value):
    with pytest.raises(SpecError, match=name):
        kind(**{name: value})
