"""How far a policy's cost is from the yardsticks.

Units: dollars in, ratios out.
"""

from __future__ import annotations

import math


def regret(cost_usd: float, bound_usd: float) -> float:
    """Ratio of a cost to a lower bound, at least 1 for a valid pair; nan where the bound is 0."""
    return cost_usd / bound_usd if bound_usd > 0.0 else math.nan


def gap_closed(heuristic_usd: float, policy_usd: float, reference_usd: float) -> float:
    """Share of the way from a heuristic to a reference; above 1 if the policy beats both.

    nan where the reference is no better than the heuristic.
    """
    gap = heuristic_usd - reference_usd
    return (heuristic_usd - policy_usd) / gap if gap > 0.0 else math.nan
