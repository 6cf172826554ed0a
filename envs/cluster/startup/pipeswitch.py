"""PipeSwitch (OSDI 2020): layers computed while later layers are still being copied.

Layers are copied and computed in groups, one after the other. A group costs `alpha_s` on top of its
copy, and its compute waits for its own copy and for the group before it:

    end of copy    P_g = P_{g-1} + alpha + gib_g / bw
    end of compute F_g = max(P_g, F_{g-1}) + C_g

so a switch takes at least max(copy, compute) and at most their sum. More groups hide more and cost
more overheads; the best grouping is found exactly.

Follows the paper (its section on pipelined model transmission; the number is recalled). The paper
searches first groups recursively with two prunings, recalled; here the same optimum comes from a
dynamic program over (layers done, groups used), exact because P depends on these two alone. The
public code searches nothing: task/resnet152.py (read) makes one group a residual block by hand.
Process start-up, the standby worker and memory allocation are left to the caller.

Units: seconds, GiB, GiB/s.  Shapes: L layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.startup.arguments import amount, count, rate

Groups = tuple[int, ...]
"""Number of layers in each group, in order."""


def even_s(gib: float, compute_s: float, groups: int, gib_s: float, alpha_s: float = 0.0) -> float:
    """Compute the switch time of a model cut into `groups` equal groups.

    With copy T = groups x alpha + gib / bw and compute C it is max(T + C / n, T / n + C).

    Raises:
        SpecError: a negative size or duration, a rate that is not positive, no group.
    """
    amount("gib", gib)
    amount("compute_s", compute_s)
    amount("alpha_s", alpha_s)
    rate("gib_s", gib_s)
    count("groups", groups)
    copy_s = groups * alpha_s + gib / gib_s
    return max(copy_s + compute_s / groups, copy_s / groups + compute_s)


@dataclass(frozen=True)
class Layers:
    """A model's layers in order, and the link that they cross.

    Raises:
        SpecError: no layer, lengths that differ, a negative size or duration, a rate <= 0.
    """

    gib: tuple[float, ...]
    """Bytes of each layer. Shape: (L,)"""
    compute_s: tuple[float, ...]
    """Compute of each layer for the batch at hand. Shape: (L,)"""
    gib_s: float
    alpha_s: float = 0.0
    """Overhead of one group on the link."""

    def __post_init__(self) -> None:
        require(len(self.gib) >= 1, "gib", self.gib, "at least one layer")
        accepted = f"{len(self.gib)} values, one a layer"
        require(len(self.compute_s) == len(self.gib), "compute_s", self.compute_s, accepted)
        for gib, seconds in zip(self.gib, self.compute_s, strict=True):
            amount("gib", gib)
            amount("compute_s", seconds)
        rate("gib_s", self.gib_s)
        amount("alpha_s", self.alpha_s)

    def copy_s(self, groups: Sequence[int]) -> float:
        """Compute the time of the copies alone.

        Raises:
            SpecError: groups that do not cover the layers.
        """
        self._check(groups)
        return len(groups) * self.alpha_s + math.fsum(self.gib) / self.gib_s

    def finish_s(self, groups: Sequence[int]) -> float:
        """Compute the time from the start of the copy to the end of the compute.

        Raises:
            SpecError: groups that do not cover the layers.
        """
        self._check(groups)
        copied_s = done_s = 0.0
        first = 0
        for layers in groups:
            last = first + layers
            copied_s += self.alpha_s + math.fsum(self.gib[first:last]) / self.gib_s
            done_s = max(copied_s, done_s) + math.fsum(self.compute_s[first:last])
            first = last
        return done_s

    def overlap_s(self, groups: Sequence[int]) -> float:
        """Compute how much of the first service is hidden behind the copy.

        A start-up that takes `copy_s` is followed by a first service shorter by this much.

        Raises:
            SpecError: groups that do not cover the layers.
        """
        return self.copy_s(groups) + math.fsum(self.compute_s) - self.finish_s(groups)

    def best_groups(self) -> Groups:
        """Find a grouping of least `finish_s`.

        Of the states (groups used, end of compute) after each layer, those that another beats in
        both are dropped, and so are those that cannot beat the best complete grouping even if all
        that remains were hidden.
        """
        n = len(self.gib)
        copied_s = [gib / self.gib_s for gib in accumulate(self.gib, initial=0.0)]
        computed_s = list(accumulate(self.compute_s, initial=0.0))
        states: list[dict[Groups, float]] = [{} for _ in range(n)]
        states[0][()] = 0.0
        best: Groups = (n,)
        best_s = self.finish_s(best)
        for i in range(n):
            for groups, done_s in _undominated(states[i]):
                overhead_s = (len(groups) + 1) * self.alpha_s
                for j in range(n, i, -1):
                    start_s = max(overhead_s + copied_s[j], done_s)
                    end_s = start_s + computed_s[j] - computed_s[i]
                    if end_s + computed_s[n] - computed_s[j] >= best_s:
                        continue
                    if j == n:
                        best, best_s = (*groups, j - i), end_s
                    else:
                        states[j][(*groups, j - i)] = end_s
        return best

    def _check(self, groups: Sequence[int]) -> None:
        for layers in groups:
            count("groups", layers)
        accepted = f"sizes that add up to {len(self.gib)} layers"
        require(sum(groups) == len(self.gib), "groups", tuple(groups), accepted)


def _undominated(states: dict[Groups, float]) -> list[tuple[Groups, float]]:
    """Keep the states that end earlier than every state of as few groups or fewer."""
    kept: list[tuple[Groups, float]] = []
    for groups, done_s in sorted(states.items(), key=lambda s: (len(s[0]), s[1])):
        if not kept or done_s < kept[-1][1]:
            kept.append((groups, done_s))
    return kept
