"""The fair search: what each heuristic may tune, and how, at the learner's budget of requests.

Every policy starts from its published setting and then gets the same number of simulated requests;
the score is scale-free (mean over problems of log cost against one fixed reference policy), so
that no problem owns the choice. One setting serves all problems, as one learned policy does.

Units: seconds (of the trace; `scale` shrinks them with compressed time).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.baselines.batch_registry import BATCHING
from stoker.baselines.registry import POLICIES
from stoker.envs.cluster.errors import SpecError

Node = dict[str, Any]
METHODS = ("tpe", "random", "grid")
GRID_POINTS = 5
REFERENCE = "faascache"
"""The policy, as published, against which costs are taken."""
TRACED_BIN_S = 3.0
"""First bin of the gap histograms at the traced speed; see `time_scale`."""


@dataclass(frozen=True)
class Range:
    """A number between two ends."""

    low: float
    high: float
    start: float
    """The published value; inf where `or_inf`."""
    log: bool = False
    time: bool = False
    """A time of the trace, which `scale` multiplies."""
    or_inf: bool = False
    """May be infinite, too."""

    def suggest(self, trial: Any, name: str, scale: float) -> float:
        """Let a trial choose."""
        if self.or_inf and trial.suggest_categorical(f"{name}_inf", [True, False]):
            return math.inf
        value = float(trial.suggest_float(name, self.low, self.high, log=self.log))
        return value * scale if self.time else value

    def published(self, name: str) -> dict[str, Any]:
        """Return the trial parameters of the published value."""
        if not self.or_inf:
            return {name: self.start}
        infinite = math.isinf(self.start)
        return {f"{name}_inf": infinite} | ({} if infinite else {name: self.start})

    def grid(self, name: str, points: int) -> dict[str, list[Any]]:
        """Return evenly spread values, the ends included."""
        shares = [k / (points - 1) for k in range(points)]
        if self.log:
            values = [self.low * (self.high / self.low) ** share for share in shares]
        else:
            values = [self.low + (self.high - self.low) * share for share in shares]
        return {name: values} | ({f"{name}_inf": [True, False]} if self.or_inf else {})


@dataclass(frozen=True)
class Choice:
    """One of a few values; the first is the published one."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str, scale: float) -> Any:
        """Let a trial choose."""
        return trial.suggest_categorical(name, list(self.values))

    def published(self, name: str) -> dict[str, Any]:
        """Return the trial parameters of the published value."""
        return {name: self.values[0]}

    def grid(self, name: str, points: int) -> dict[str, list[Any]]:
        """Return all values."""
        return {name: list(self.values)}


HAZARD: dict[str, Range | Choice] = {
    "slow_decay": Range(0.8, 0.999, 0.97),
    "prior_weight": Range(0.01, 3.0, 0.1, log=True),
    "cost_exponent": Range(0.3, 2.0, 1.0),
    "size_exponent": Range(0.3, 2.0, 1.0),
    "prewarm": Choice((True, False)),
    "price_factor": Range(0.1, 10.0, 1.0, log=True),
}
SPACES: dict[str, dict[str, Range | Choice]] = {
    "ttl": {"ttl_s": Range(1.0, 14_400.0, 600.0, log=True, time=True)},
    "lru": {},
    "faascache": {
        "ttl_s": Range(10.0, 28_800.0, math.inf, log=True, time=True, or_inf=True),
    },
    "hybrid_histogram": {
        "head": Range(0.0, 0.3, 0.05),
        "tail": Range(0.5, 1.0, 0.99),
        "margin": Range(0.0, 0.5, 0.1),
        "cv": Range(0.0, 8.0, 2.0),
        "prewarm": Choice((True, False)),
        "eviction": Choice(("lru", "greedy_dual")),
    },
    "rainbowcake": {
        "quantile": Range(0.3, 0.99, 0.8),
        "odds": Range(1.0, 1e8, 249.0, log=True),
        "floor_s": Range(1.0, 3_600.0, 60.0, log=True, time=True),
        "prewarm": Choice((True, False)),
        "eviction": Choice(("lru", "greedy_dual")),
    },
    "icebreaker": {
        "variant": Choice(("paper", "public")),
        "window": Choice((60, 30, 120)),
        "harmonics": Choice((10, 5, 20)),
        "cut_low": Range(0.0, 0.5, 0.33),
        "cut_high": Range(0.5, 1.0, 0.66),
    },
    "lead_time": {
        "warm": Range(0.02, 1.0, 0.5),
        "keep": Range(0.0, 1.0, 0.1),
        "spread": Range(0.0, 3.0, 0.0),
        "window_s": Choice((600.0, 60.0, 3600.0)),
    },
    "serverlessllm": {
        "periods": Range(0.1, 1000.0, 1.0, log=True),
        "window_s": Choice((3600.0, 600.0)),
        "eviction": Choice(("lru", "greedy_dual", "freq")),
    },
    "torpor": {
        "eviction": Choice(("lru", "greedy_dual", "freq")),
        "order": Choice(("edf", "fcfs", "collation")),
    },
    "hazard": HAZARD,
    "combined": {
        "warm": Range(0.05, 1.2, 0.5),
        "host": Choice((True, False)),
        "factor": Range(1.0, 4.0, 2.0),
        **HAZARD,
    },
    "alpaserve": {"tick_s": Range(60.0, 3600.0, 300.0, log=True, time=True)},
    "hpa": {
        "target": Range(0.3, 1.0, 0.7),
        "window_s": Range(15.0, 3600.0, 300.0, log=True, time=True),
        "ttl_s": Range(1.0, 14_400.0, 600.0, log=True, time=True),
    },
    "nexus": {"factor": Range(1.0, 4.0, 2.0)},
    "clipper": {
        "step": Range(0.5, 32.0, 1.0, log=True),
        "backoff": Range(0.5, 0.99, 0.9),
        "delay": Range(0.0, 0.5, 0.0),
        "share": Range(0.1, 1.0, 1.0),
    },
    "batch": {"percentile": Range(0.5, 0.999, 0.95), "use": Range(0.5, 1.5, 0.9)},
    "triton": {"preferred": Choice((32, 16, 8, 4, 2, 1)), "delay": Range(0.0, 0.8, 0.0)},
}
FIXED: dict[str, dict[str, float]] = {
    "hybrid_histogram": {"minute_s": 60.0},
    "rainbowcake": {"default_s": 600.0, "window_s": 86_400.0, "tick_s": 60.0},
    "icebreaker": {"tick_s": 60.0},
    "lead_time": {"tick_s": 60.0},
    "serverlessllm": {"tick_s": 60.0},
    "combined": {"tick_s": 60.0},
    "hpa": {"tick_s": 15.0},
}
"""Times that are not searched but follow the trace's."""
KNOBS = {
    "ttl": "ttl_s", "faascache": "ttl_s", "hybrid_histogram": "minute_s", "rainbowcake": "odds",
}  # fmt: skip
"""What trades dollars for waiting in a published policy."""
ORACLE_TAKES = ("cost_exponent", "size_exponent", "prewarm", "price_factor", "prior_weight")
"""Parameters of the hazard index that the hazard oracle shares."""


@dataclass(frozen=True)
class Trial:
    """One setting and its score, lower is better."""

    parameters: Node
    score: float


@dataclass(frozen=True)
class Found:
    """The result of a search; the published setting is the first trial."""

    node: Node
    """The best setting, as a config node with `_target_`."""
    score: float
    trials: list[Trial]

    @property
    def published_score(self) -> float:
        """Score of the setting that the search started from."""
        return self.trials[0].score

    def report(self, requests: int) -> dict[str, float]:
        """Scores and budget as a tune run's file has them; `requests`: simulated by one trial."""
        return {
            "tuned": self.score,
            "published": self.published_score,
            "trials": len(self.trials),
            "simulated_requests": len(self.trials) * requests,
        }


def time_scale(first_bin_s: float) -> float:
    """Return by how much a cluster's time is shorter than the trace's (1 = as traced)."""
    return first_bin_s / TRACED_BIN_S


def published(name: str, scale: float = 1.0) -> Node:
    """Return the config node of a policy as published, its times scaled."""
    node: Node = {"_target_": _target(name)}
    for key, axis in SPACES[name].items():
        if isinstance(axis, Choice):
            node[key] = axis.values[0]
        else:
            node[key] = axis.start * scale if axis.time else axis.start
    return {**node, **_fixed(name, scale)}


def search(
    name: str,
    score: Callable[[Node], float],
    trials: int,
    *,
    seed: int = 0,
    method: str = "tpe",
    scale: float = 1.0,
) -> Found:
    """Search the space of a policy for the lowest score.

    Args:
        name: a key of `SPACES`.
        score: judges a config node; lower is better.
        trials: settings to judge, the published one included.
        seed: of the search.
        method: tpe (tree of Parzen estimators), random or grid.
        scale: see `time_scale`.
    """
    if method not in METHODS:
        raise SpecError("method", method, " | ".join(METHODS))
    if trials < 1:
        raise SpecError("trials", trials, "an integer >= 1")
    space = SPACES[name] if name in SPACES else _target(name)
    assert isinstance(space, dict)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=_sampler(optuna, space, method, seed))
    start = {key: value for k, axis in space.items() for key, value in axis.published(k).items()}
    if method != "grid":
        study.enqueue_trial(start)
    kept: list[Trial] = []

    def objective(trial: Any) -> float:
        node: Node = {"_target_": _target(name)}
        node |= {key: axis.suggest(trial, key, scale) for key, axis in space.items()}
        node |= _fixed(name, scale)
        kept.append(Trial(node, float(score(node))))
        return kept[-1].score

    if method == "grid" or not space:
        node = published(name, scale)
        kept.append(Trial(node, float(score(node))))
    more = trials - len(kept) if space else 0
    if more > 0:
        study.optimize(objective, n_trials=more)
    best = min(kept, key=lambda trial: trial.score)
    return Found(best.parameters, best.score, kept)


def frontier(
    name: str, node: Mapping[str, Any], factors: Sequence[float], scale: float
) -> list[Node]:
    """Return further settings of a published policy along its trade of dollars for waiting.

    They stretch what the policy calls its keep-alive by each factor. Least recently used has none.

    Args:
        name: the policy's name.
        node: its headline setting.
        factors: one a setting.
        scale: see `time_scale`.
    """
    knob = KNOBS.get(name)
    if knob is None:
        return []
    base = float(node.get(knob, published(name, scale)[knob]))
    if math.isinf(base):
        base = 3600.0 * scale
    return [{**node, knob: base * factor} for factor in factors]


def _sampler(optuna: Any, space: Mapping[str, Range | Choice], method: str, seed: int) -> Any:
    if method == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=False)
    if method == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    points = {k: v for name, axis in space.items() for k, v in axis.grid(name, GRID_POINTS).items()}
    return optuna.samplers.GridSampler(points, seed=seed)


def _target(name: str) -> str:
    if name not in SPACES:
        raise SpecError("policies", name, " | ".join(SPACES))
    return {**POLICIES, **BATCHING}[name]


def _fixed(name: str, scale: float) -> Node:
    """Times that are not searched but follow the trace's."""
    return {key: value * scale for key, value in FIXED.get(name, {}).items()}
