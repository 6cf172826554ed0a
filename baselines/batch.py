"""BATCH: batch size and timeout from an analytic model of how batches form.

Source: Ali, Pinciroli, Yan, Smirni, "BATCH: machine learning inference serving on serverless
platforms with adaptive batching", SC 2020. Ours: arrivals are Poisson at the measured rate (the
paper fits a Markovian process of two states and so knows bursts), there is one memory size and one
instance: its load must stay below `use`, and a batch takes whatever came while the last one ran.

Rule: a batch starts when `size` requests wait or the first has waited `timeout`. Of all pairs whose
share of requests within the target is at least `percentile`, the one that takes least GPU time a
request is used; if there is none, the one with the largest share below that load; else the one that
takes least GPU time. The model is solved anew whenever the requests that have come have doubled.

With rate x and timeout T, K ~ Poisson(x T) requests join the first. If K < size - 1 the first waits
T, the others uniformly up to T; else the batch is full after an Erlang time w < T, the first waits
w, the last not at all, the others uniformly up to w. Service p(batch) is added to each.

Shapes: B rows, F functions, Z batch sizes, T timeouts, W points of integration.
Units: seconds; inside the model all times are in latency targets.
"""

from __future__ import annotations

import numpy as np

from stoker.baselines.batch_policy import WAIT, BatchPolicy, Due, Floats, Ints, run_up_to
from stoker.envs.cluster.errors import require

TIMEOUTS = np.concatenate([[0.0], np.geomspace(0.01, 0.8, 14)])
"""Candidates, in latency targets."""
POINTS = 64
TINY = 1e-300
FIRST_FIT = 16
"""Requests before the model is solved first; until then everything runs at once."""


class Batch(BatchPolicy):
    """Size and timeout by the model.

    Args:
        percentile: share of requests that should be within the target.
        use: largest share of time that the GPU may be busy in the model.
    """

    def __init__(self, percentile: float = 0.95, use: float = 0.9) -> None:
        require(0.0 < percentile <= 1.0, "policy.percentile", percentile, "in (0, 1]")
        require(use > 0.0, "policy.use", use, "> 0")
        self.percentile, self.use = percentile, use

    def reset(self, rows: int, functions: int) -> None:
        """Nothing is known of the traffic."""
        shape = rows, functions
        self._known, self._size = np.zeros(shape, np.int64), np.ones(shape, np.int64)
        self._timeout = np.zeros(shape)

    def forget(self, row: int) -> None:
        """Likewise for one row."""
        self._known[row], self._size[row], self._timeout[row] = 0, 1, 0.0

    def act(self, due: Due) -> Ints:
        """Run full batches, and those whose head has waited long enough."""
        at = np.arange(len(due.function)), due.function
        stale = due.arrivals >= np.maximum(2 * self._known[at], FIRST_FIT)
        for k in np.flatnonzero(stale & (due.now_s > 0.0)).tolist():
            f = int(due.function[k])
            self._known[k, f] = due.arrivals[k]
            rate = float(due.arrivals[k] / due.now_s[k] * due.slo_s[k])
            alpha, beta = due.alpha_s[k] / due.slo_s[k], due.beta_s[k] / due.slo_s[k]
            sizes = due.sizes[due.sizes <= due.max_batch[k]]
            chosen = self.choose(rate, float(alpha), float(beta), sizes)
            self._size[k, f], self._timeout[k, f] = chosen
        full = due.queued >= self._size[at]
        runs = full | (due.head_waited_s >= self._timeout[at] * due.slo_s)
        return np.where(runs, run_up_to(due, due.max_batch), WAIT)

    def choose(self, rate: float, alpha: float, beta: float, sizes: Ints) -> tuple[int, float]:
        """Choose size and timeout; times in latency targets."""
        found: list[tuple[int, float, int, float]] = []
        for size in sizes.tolist():
            share, work, _ = forecast(rate, alpha, beta, size, TIMEOUTS)
            stable = rate * work <= self.use
            good = stable & (share >= self.percentile)
            rank = np.where(good, 0, np.where(stable, 1, 2))
            figure = np.where(rank == 1, 1.0 - share, work)
            at = int(np.lexsort((figure, rank))[0])
            found.append((int(rank[at]), float(figure[at]), size, float(TIMEOUTS[at])))
        *_, size, timeout = min(found)
        return size, timeout


def forecast(
    rate: float, alpha: float, beta: float, size: int, timeout: Floats
) -> tuple[Floats, Floats, Floats]:
    """Forecast the share of requests within the target, GPU time a request and the mean batch.

    Args:
        rate: arrivals during one latency target.
        alpha: fixed part of a batch's time, in targets.
        beta: part a request.
        size: of a full batch.
        timeout: of the first request, in targets. Shape: (T,), as of what is returned.
    """
    batch = np.arange(1.0, size)  # those that the timeout starts
    chance = _poisson(rate * timeout, size - 1)
    full = np.maximum(1.0 - chance.sum(axis=1), 0.0)
    left = 1.0 - alpha - beta * batch  # of the target, for waiting
    waits = timeout[:, None]
    in_time = (left >= waits) + (batch - 1.0) * _within(left, waits)
    mean = chance @ batch + full * size
    work = chance @ (alpha + beta * batch) + full * (alpha + beta * size)
    room = 1.0 - alpha - beta * size
    fill, weight = _erlang(rate, size - 1, timeout)
    last = float(room >= 0.0 and size > 1)
    ends = np.where(room >= fill, 1.0 + last, last)  # the first one and the last
    filled = (weight * (ends + max(size - 2, 0) * _within(room, fill))).sum(axis=1)
    on_time = (chance * in_time).sum(axis=1) + full * filled
    return on_time / mean, work / mean, mean


def _within(bound: Floats | float, most: Floats) -> Floats:
    """Probability that a uniform time up to `most` is at most `bound`. Any shape."""
    share: Floats = np.where(bound >= most, 1.0, np.maximum(bound, 0.0) / np.maximum(most, TINY))
    return share


def _poisson(mean: Floats, count: int) -> Floats:
    """Probability of 0..count-1 events. Shapes: (T,) -> (T, count)"""
    n = np.arange(count)
    scale = np.cumsum(np.log(np.maximum(n, 1)))
    share: Floats = np.exp(n * np.log(np.maximum(mean, TINY))[:, None] - mean[:, None] - scale)
    return share


def _erlang(rate: float, events: int, most: Floats) -> tuple[Floats, Floats]:
    """Times at which so many events have come, given that it is before `most`, and their weights.

    Shapes: (T,) -> (T, W), (T, W)
    """
    if events == 0:
        return np.zeros((len(most), 1)), np.ones((len(most), 1))
    wait = (np.arange(POINTS) + 0.5) / POINTS * most[:, None]
    log = (events - 1) * np.log(np.maximum(wait, TINY)) - rate * wait
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    return wait, weight / weight.sum(axis=1, keepdims=True)
