"""IceBreaker (Roy, Patel and Tiwari, ASPLOS 2022): forecast, then warm on dear or cheap servers.

Rule: every minute forecast each function's calls of the next one by a trend and ten harmonics of
the last hour; keep that many instances, and no other. The functions are ranked by utility: the best
third of the range is warmed on the dear class, the next on the cheap one, the rest not at all.
Variant `public` follows the public evaluator: straight trend, the ten lowest harmonics, weighted
utility, an instance a call. Variant `paper` follows the paper as recalled: quadratic trend, the ten
strongest harmonics, mean utility, as many instances as calls overlap on average. The paper adapts
its cut-offs while it runs; here they stay.

An instance cannot move: a function that changes class lets go at one tick and loads at the next.
With one class, or classes of one price, utility only says whether to warm.

Shapes: B rows, F functions, W minutes of history, N series.  Units: seconds, GiB, calls a tick.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Floats, Ints, Snapshot
from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.spec import Cluster

VARIANTS = ("paper", "public")
ANY = -1
JUDGED = 10
"""Ticks over which forecasts are held against calls; before, every function counts as best."""


class IceBreaker(Policy):
    """Warm what the forecast asks for, on the class of GPU that the utility asks for.

    Args:
        variant: paper or public, see the module.
        window: ticks of history in the forecast.
        harmonics: kept of them.
        cut_low: utility, scaled to 0..1 over the functions, below which nothing is warmed...
        cut_high: ...and from which the dear class is.
        tick_s: time between forecasts, and their horizon.

    Raises:
        SpecError: names the argument.
    """

    def __init__(
        self,
        variant: str = "paper",
        window: int = 60,
        harmonics: int = 10,
        cut_low: float = 0.33,
        cut_high: float = 0.66,
        tick_s: float = 60.0,
    ) -> None:
        require(variant in VARIANTS, "policy.variant", variant, " | ".join(VARIANTS))
        require(window >= JUDGED, "policy.window", window, f"an integer >= {JUDGED}")
        require(harmonics >= 0, "policy.harmonics", harmonics, "an integer >= 0")
        if not 0.0 <= cut_low <= cut_high:
            raise SpecError("policy.cut_low", cut_low, f"0 <= cut_low <= cut_high ({cut_high})")
        require(0.0 < tick_s < np.inf, "policy.tick_s", tick_s, "a finite time > 0")
        self.variant, self.window, self.harmonics = variant, int(window), int(harmonics)
        self.cut_low, self.cut_high, self.tick_s = cut_low, cut_high, tick_s

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Forget the calls, and work out what the classes of GPU mean for each function."""
        shape = rows, len(cluster.functions)
        self._ticks = 0
        self._seen = np.zeros(shape, np.int64)
        self._calls = np.zeros((*shape, self.window))
        self._foreseen = np.zeros((*shape, JUDGED + 1))
        self._class: Ints = np.full(shape, ANY, np.int32)
        dear, cheap = classes_by_price(cluster)
        self._classes = usable(cluster, dear), usable(cluster, cheap)
        (dear_start, dear_run), (cheap_start, cheap_run) = (
            times(cluster, dear),
            times(cluster, cheap),
        )
        total = np.maximum(cheap_start + cheap_run, 1e-12)
        self._speed_up = np.maximum(1.0 - (dear_start + dear_run) / total, 0.0)
        self._run = dear_run, cheap_run
        gib = np.array([f.device_gib for f in cluster.functions])
        self._small = np.maximum(1.0 - gib / max(g.memory_gib for g in cluster.gpus), 0.0)
        self._slots = np.array([f.concurrency * f.max_batch for f in cluster.functions])

    def decide(self, snapshot: Snapshot) -> Decision:
        """Forecast, rank and order."""
        self._remember(snapshot.arrivals)
        calls = self._forecast()
        self._foreseen = np.concatenate((self._foreseen[..., 1:], calls[..., None]), axis=-1)
        use = self._utility()
        on_dear = (use >= self.cut_high) | (use < self.cut_low)  # a cold start goes there, too
        wanted: Ints = np.where(on_dear, *self._classes).astype(np.int32)
        warm = np.where(use < self.cut_low, 0, self._instances(calls, on_dear))
        there = snapshot.idle + snapshot.busy + snapshot.loading > 0
        warm[(wanted != self._class) & there] = 0
        self._class = wanted
        return Decision(
            keep_alive_s=np.zeros(warm.shape), prewarm=warm.astype(np.int32), gpu_class=wanted
        )

    def _remember(self, arrivals: NDArray[np.int64]) -> None:
        """Add the calls since the last tick to the history. Shape: (B, F)"""
        if self._ticks > 0:
            self._calls = np.concatenate(
                (self._calls[..., 1:], (arrivals - self._seen)[..., None]), axis=-1
            )
        self._seen = arrivals.copy()
        self._ticks += 1

    def _forecast(self) -> Floats:
        """Whole calls expected before the next tick. Shape: (B, F)"""
        past = min(self._ticks - 1, self.window)
        calls = np.zeros(self._seen.shape)
        history = self._calls[..., self.window - past :]
        called = history.any(axis=-1)
        if called.any():
            calls[called] = forecast(history[called], self.harmonics, self.variant)
        return np.maximum(np.rint(calls), 0.0)

    def _utility(self) -> Floats:
        """Utility of warming, from 0 to 1 over the functions of a row. Shape: (B, F)"""
        if self._ticks - 1 <= JUDGED:
            return np.ones(self._seen.shape)
        real = self._calls[..., -JUDGED:]
        missed = real - self._foreseen[..., :JUDGED]
        total = real.sum(axis=-1)
        under, over = (np.maximum(sign * missed, 0.0).sum(axis=-1) for sign in (1.0, -1.0))
        short = np.minimum(under / np.maximum(total, 1.0), 1.0)
        sparing = np.where(
            total > 0.0, np.maximum(1.0 - over / np.maximum(total, 1.0), 0.0), over == 0
        )
        terms = np.broadcast_arrays(self._small, self._speed_up, short, sparing)
        return scaled(utility(np.stack(terms, axis=-1), self.variant))

    def _instances(self, calls: Floats, on_dear: NDArray[np.bool_]) -> Floats:
        """Instances for so many calls in a tick. Shape: (B, F)"""
        if self.variant == "public":
            return calls
        run_s = np.where(on_dear, *self._run)
        overlapping: Floats = np.ceil(calls * run_s / self.tick_s / self._slots)
        return np.where(calls > 0.0, np.maximum(overlapping, 1.0), 0.0)


def forecast(calls: Floats, harmonics: int, variant: str) -> Floats:
    """Extend each series by one value: a polynomial trend plus harmonics of what it leaves.

    A harmonic of n values is after n values where it began, so the extended value is the trend's
    plus what the kept harmonics had at the beginning.

    Args:
        calls: one series a row, in order of time, n >= 1. Shape: (N, n)
        harmonics: how many frequencies to keep: the strongest (paper), the lowest (public).
        variant: paper (quadratic trend) or public (straight).

    Returns:
        The next value, not rounded. Shape: (N,)
    """
    n = calls.shape[-1]
    degree = min(2 if variant == "paper" else 1, n - 1)
    powers, solve = _fit(n, degree)
    fitted = (calls @ solve) @ powers
    spectrum = np.fft.rfft(calls - fitted[:, :n], axis=-1)[:, 1:]
    share = np.full(spectrum.shape[-1], 2.0 / n)
    share[(n - 1) // 2 :] = 1.0 / n  # the highest of an even n has no mirror image
    parts = spectrum.real * share
    if variant == "paper":
        order = np.argsort(-np.abs(spectrum) * share, axis=-1, kind="stable")
        parts = np.take_along_axis(parts, order, axis=-1)
    extended: Floats = fitted[:, n] + parts[:, :harmonics].sum(axis=-1)
    return extended


@lru_cache(maxsize=128)
def _fit(n: int, degree: int) -> tuple[Floats, Floats]:
    """Powers of time, one step more than n, and least squares for n values' coefficients of them.

    Shapes: (degree + 1, n + 1), (n, degree + 1)
    """
    powers = np.vander(np.arange(n + 1) / n, degree + 1)
    return powers.T, np.linalg.pinv(powers[:n]).T.astype(np.float64)


def utility(terms: Floats, variant: str) -> Floats:
    """Join the four shares: small, quicker on the dear class, under-forecast, not over-forecast.

    The mean (paper); or weighed by a third of one minus each one's part of their sum (public).

    Args:
        terms: each in 0..1. Shape: (..., 4)
        variant: paper or public.

    Returns:
        Shape: (...)
    """
    if variant == "paper":
        mean: Floats = terms.mean(axis=-1)
        return mean
    part = terms / np.maximum(terms.sum(axis=-1, keepdims=True), 1e-12)
    weighed: Floats = (terms * (1.0 - part)).sum(axis=-1) / 3.0
    return weighed


def scaled(values: Floats) -> Floats:
    """Scale each row to 0..1 over its functions; all 1 where they are equal. Shape: (B, F)"""
    low, high = values.min(axis=-1, keepdims=True), values.max(axis=-1, keepdims=True)
    return np.where(high > low, (values - low) / np.where(high > low, high - low, 1.0), 1.0)


def classes_by_price(cluster: Cluster) -> tuple[str, str]:
    """Return the kinds of GPU whose memory is dearest and cheapest; one kind where none differ."""
    price = {g.kind: g.usd_gib_s for g in reversed(cluster.gpus)}
    kinds = cluster.kinds
    return max(kinds, key=lambda kind: price[kind]), min(kinds, key=lambda kind: price[kind])


def usable(cluster: Cluster, kind: str) -> Ints:
    """Return the number of the class for each function, any where it is too small. Shape: (F,)"""
    largest = max(g.memory_gib for g in cluster.gpus if g.kind == kind)
    fits = np.array([f.device_gib <= largest for f in cluster.functions])
    only = len(set(classes_by_price(cluster))) == 1
    return np.where(fits & (not only), cluster.kinds.index(kind), ANY).astype(np.int32)


def times(cluster: Cluster, kind: str) -> tuple[Floats, Floats]:
    """Start-up and service time of each function on a class of GPU. Shapes: (F,), (F,)"""
    nodes = [n for n in cluster.all_nodes if any(g.kind == kind for g in n.gpus)]
    start: Floats = np.min([n.loads_s(cluster.columns) for n in nodes], axis=0)
    run = [sum(f.service(kind)) for f in cluster.functions]
    return start, np.array(run)
