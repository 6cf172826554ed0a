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
from stoker.baselines.spaces import FIXED, KNOBS, SPACES, Choice, Range
from stoker.envs.cluster.errors import SpecError

Node = dict[str, Any]
METHODS = ("tpe", "random", "grid")
GRID_POINTS = 5
REFERENCE = "faascache"
"""The policy, as published, against which costs are taken."""
TRACED_BIN_S = 3.0
"""First bin of the gap histograms at the traced speed; see `time_scale`."""
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
