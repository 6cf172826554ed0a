"""vLLM's order: prompts first, whole and alone; decodes only where no prompt can start.

Source: Kwon et al., "Efficient memory management for large language model serving with
PagedAttention", SOSP 2023, section 4.5, with the limits of vLLM 0.2 and later. Follows the public
code: at most max(2,048, the longest request) tokens of prompts in a batch.

Rule: while waiting prompts find blocks, places and tokens the batch is prompts alone; else it is a
token for every running request. Ordered as a token budget of 0.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot


class VllmOrder(Policy):
    """Whole prompts first."""

    tick_s = math.inf

    def decide(self, snapshot: Snapshot) -> Decision:
        """Return the budget that stands for whole prompts."""
        return Decision(token_budget=np.zeros(snapshot.idle.shape, np.int64))
