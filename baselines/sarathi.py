"""Sarathi-Serve with one token budget for all: stall-free batches of chunked prompts.

Source: Agrawal et al., "Taming throughput-latency tradeoff in LLM inference with Sarathi-Serve",
OSDI 2024, section 4; budgets of its evaluation: 512 under strict targets, 2,048 under relaxed ones.
Follows the paper.

Rule: an iteration holds a token for every running decode, then chunks of prompts, together at most
`budget` tokens. The engine's scheduler `sarathi` does so; this policy names the budget once.

Units: tokens.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import LEAST_TOKENS, MOST_TOKENS, Decision, Snapshot
from stoker.envs.cluster.errors import require


class Sarathi(Policy):
    """Hold a budget.

    Args:
        budget: tokens of an iteration.
    """

    tick_s = math.inf

    def __init__(self, budget: int = 512) -> None:
        accepted = f"{LEAST_TOKENS}..{MOST_TOKENS}"
        require(LEAST_TOKENS <= budget <= MOST_TOKENS, "policy.budget", budget, accepted)
        self.budget = budget

    def decide(self, snapshot: Snapshot) -> Decision:
        """Return the same budget for every function."""
        return Decision(token_budget=np.full(snapshot.idle.shape, self.budget))
