"""Change the rules of a cluster that runs: who is evicted, who plans, and their numbers."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.fill import fill_rules
from stoker.envs.cluster.rules.params import DEFAULTS
from stoker.envs.cluster.spec import Rules
from stoker.envs.cluster.switching import reorder_rows
from stoker.envs.cluster.tables import HYBRID

if TYPE_CHECKING:
    from stoker.envs.cluster.simulation import Simulation

SWITCHED = ("eviction", "plan", "params")


def check_switch(before: Rules, after: Rules, field: str = "rules") -> None:
    """Refuse rules that differ in more than what can change while a cluster runs."""
    for f in fields(Rules):
        old, new = getattr(before, f.name), getattr(after, f.name)
        if f.name not in SWITCHED and old != new:
            raise SpecError(f"{field}.{f.name}", new, f"{old} (only {', '.join(SWITCHED)} differ)")


def switch(sim: Simulation, rules: Rules) -> None:
    """Evict and plan by `rules` from now on."""
    check_switch(sim.rules, rules)
    state = sim.state
    sim.rules = state.rules = rules
    state.param[:] = [rules.params.get(k, v) for k, v in DEFAULTS.items()]
    if rules.plan == "hybrid_histogram" and state.hybrid.shape[1] == 0:
        state.hybrid = np.zeros(state.fn.shape, HYBRID)
        state.point()
    fill_rules(state.rows, rules)
    reorder_rows(state.rows)
