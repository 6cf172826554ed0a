"""Orca's order: whole prompts join the running decodes in the next iteration.

Source: Yu et al., "Orca: a distributed serving system for transformer-based generative models",
OSDI 2022, section 4 (iteration-level scheduling). Follows the paper, but for its memory: blocks are
taken as they are needed, not reserved for the longest request.

Rule: a token for every running request, and every waiting prompt that finds a place, whole. Ordered
as a token budget above all that can wait.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import MOST_TOKENS, Decision, Snapshot


class OrcaOrder(Policy):
    """Never cut a prompt."""

    tick_s = math.inf

    def decide(self, snapshot: Snapshot) -> Decision:
        """Return a budget without effect."""
        return Decision(token_budget=np.full(snapshot.idle.shape, MOST_TOKENS))
