"""How many tokens an iteration of an LLM function computes.

| choice | tokens |
| --- | --- |
| 0 .. 8 | 128, 192, 256, 384, 512, 768, 1,024, 1,536, 2,048: decodes, then prompts in chunks |
| 9 | whole prompts first and alone, then decodes |

The range is that of Sarathi-Serve (OSDI 2024: 512 under strict targets, 2,048 under relaxed ones)
and of Niyama's dynamic chunks.

Shapes: B rows, S slots.  Units: tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.observe_tokens import BUDGETS
from stoker.envs.cluster.spec import Cluster
from stoker.envs.levers.lever import Actions, Bools
from stoker.envs.levers.scene import Scene

_BUDGETS = np.array(BUDGETS)


class TokenBudget:
    """One budget out of ten."""

    instead: tuple[int, ...] = (0,) * len(BUDGETS)
    neutral = BUDGETS.index(512)

    def mask(self, cluster: Cluster) -> Bools:
        """No choice for functions that do not compute prompts in chunks. Shape: (F, 10)"""
        mask = np.zeros((len(cluster.functions), len(BUDGETS)), np.bool_)
        cuts = [f.llm is not None and f.llm.scheduler == "sarathi" for f in cluster.functions]
        mask[:, 0], mask[cuts] = True, True
        return mask

    def orders(self, choice: Actions, scene: Scene) -> dict[str, NDArray[Any]]:
        """The budget. Shape: (B, S)"""
        return {"token_budget": _BUDGETS[choice]}
