"""Sarathi-Serve with the token budget that a target of the time between tokens allows.

Source: Agrawal et al., "Taming throughput-latency tradeoff in LLM inference with Sarathi-Serve",
OSDI 2024, section 4.3: the budget is found by profiling, as the most tokens that an iteration can
hold and still meet the target, in multiples of the tile of a matrix product. Follows the paper; in
place of a profiling run stands the iteration time of the function's calibration profile.

Rule: budget = the largest multiple of `tile`, at least one, of which an iteration of so many
tokens (`decodes` decodes with `context` tokens behind each, the rest of a prompt) takes at most
`margin` x target. A function without a target takes `most`.

| paper | here |
| --- | --- |
| TBT SLO | Llm.tbt_s |
| token budget | _budget |
| tile size | tile |

Shapes: F functions.  Units: seconds, tokens.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import require
from stoker.envs.cluster.llm.calibration import profile
from stoker.envs.cluster.llm.iteration_time import iteration_s
from stoker.envs.cluster.spec import Cluster, Llm


class SarathiSlo(Policy):
    """Hold the largest budget whose iterations are in time.

    Args:
        margin: of the target, that an iteration may take.
        decodes: that are expected in an iteration.
        context: tokens behind each of them.
        tile: budgets are multiples of it.
        most: largest budget.
    """

    tick_s = math.inf

    def __init__(
        self,
        margin: float = 1.0,
        decodes: int = 32,
        context: int = 1024,
        tile: int = 128,
        most: int = 8192,
    ) -> None:
        require(0.0 < margin < math.inf, "policy.margin", margin, "finite, > 0")
        for name, value, least in (
            ("decodes", decodes, 0), ("context", context, 0), ("tile", tile, 16),
            ("most", most, tile),
        ):  # fmt: skip
            require(value >= least, f"policy.{name}", value, f">= {least}")
        self.margin, self.decodes, self.context = margin, decodes, context
        self.tile, self.most = tile, most

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Find the budget of every function."""
        self._budgets = np.array([self._budget(f.llm) for f in cluster.functions])

    def decide(self, snapshot: Snapshot) -> Decision:
        """Return the budgets that were found."""
        return Decision(token_budget=np.broadcast_to(self._budgets, snapshot.idle.shape))

    def _budget(self, llm: Llm | None) -> int:
        if llm is None:
            return self.most
        known, least = profile(llm.profile), 1
        beyond = self.most // self.tile + 1
        while beyond - least > 1:  # the time of an iteration grows with its tokens
            middle = (least + beyond) // 2
            chunk = max(middle * self.tile - self.decodes, 0)
            takes_s = iteration_s(known, chunk, self.decodes, self.context, llm.form)
            if takes_s <= self.margin * llm.tbt_s:
                least = middle
            else:
                beyond = middle
        return least * self.tile
