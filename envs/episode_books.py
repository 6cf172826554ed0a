"""Return and length of every row's episode, and what `info` tells of those that end.

Shapes: B rows, X observation columns.  Units: rewards, decisions, seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class EpisodeBooks:
    """The books of B rows under Gymnasium's names.

    Args:
        rows: B.
    """

    returned: Floats
    """Sum of the rewards since the episode began. Shape: (B,)."""
    length: Floats
    """Decisions since the episode began. Shape: (B,)."""

    def __init__(self, rows: int) -> None:
        self.returned, self.length = np.zeros(rows), np.zeros(rows)

    def add(self, rewards: Floats) -> None:
        """Book one decision of every row. Shape: (B,)."""
        self.returned += rewards
        self.length += 1.0

    def restart(self, k: int) -> None:
        """Begin the next episode of row k."""
        self.returned[k] = self.length[k] = 0.0

    def ended(
        self,
        over: NDArray[np.int64],
        now_s: Floats,
        observation: NDArray[np.float32],
        summaries: list[dict[str, float]],
    ) -> dict[str, Any]:
        """Tell of the rows in `over`, one summary each. Shapes: (E,), (B,), (B, X)."""
        rows = len(self.length)
        ended = np.zeros(rows, np.bool_)
        ended[over] = True
        episode = {"r": self.returned.copy(), "l": self.length.astype(np.int64)}
        episode["t"] = now_s.copy()
        by_row: list[dict[str, float]] = [{} for _ in range(rows)]
        for k, figures in zip(over.tolist(), summaries, strict=True):
            by_row[k] = figures
        return {
            "final_obs": observation.copy(),
            "_final_obs": ended,
            "final_info": {"episode": episode, "summary": _by_name(rows, over, summaries)},
            "_final_info": ended.copy(),
            "summary": by_row,
        }


def _by_name(rows: int, over: NDArray[np.int64], summaries: list[dict[str, float]]) -> Any:
    """Turn summaries of some rows into arrays over all rows: {name: (B,)}, zeros elsewhere."""
    table = {name: np.zeros(rows) for name in summaries[0]}
    for k, summary in zip(over.tolist(), summaries, strict=True):
        for name, value in summary.items():
            table[name][k] = value
    return table
