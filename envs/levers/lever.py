"""A lever is one choice a function; the levers of an environment are the heads of its action.

A masked choice is replaced by the one that its lever names in its stead, until a legal one is
reached; choice 0 is always legal.

Shapes: B rows, S slots, H levers, A choices of one lever.  Units: seconds.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.levers.scene import Scene

Actions = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Lever(Protocol):
    """One choice a function."""

    instead: tuple[int, ...]
    """What is obeyed in place of each choice where that is masked."""
    neutral: int
    """The choice that keeps what is there: where a learner begins."""

    def mask(self, cluster: Cluster) -> Bools:
        """Legal choices of every function. Shape: (F, A)"""
        ...

    def orders(self, choice: Actions, scene: Scene) -> dict[str, NDArray[Any]]:
        """Fields of Decision until the next tick. Shapes: (B, S)"""
        ...


class Levers:
    """The levers of an environment, in the order of the action's columns.

    Args:
        levers: one a column.
        plan: the rule that plans idleness: `decision`, or `hazard` where a lever leaves it to that.
    """

    def __init__(self, *levers: Lever, plan: str = "decision") -> None:
        self.levers = levers
        self.rules = Rules(eviction="hazard", plan=plan)
        """Compiled rules where the environment is given none."""
        self.choices = tuple(len(lever.instead) for lever in levers)
        self._ends: Actions = np.cumsum(self.choices, dtype=np.int64)
        self._instead = np.concatenate([lever.instead for lever in levers])

    @property
    def neutral(self) -> int:
        """The joint choice of keeping what is there, the last lever fastest."""
        each = tuple(lever.neutral for lever in self.levers)
        return int(np.ravel_multi_index(each, self.choices))

    def mask(self, cluster: Cluster, slots: int) -> Bools:
        """Legal choices, lever after lever; an empty slot has choice 0 alone. Shape: (S, sum A)"""
        mask = np.zeros((slots, int(self._ends[-1])), np.bool_)
        mask[:, self._ends - self.choices] = True
        legal = [lever.mask(cluster) for lever in self.levers]
        mask[: len(cluster.functions)] = np.concatenate(legal, axis=1)
        return mask

    def joint(self, mask: Bools) -> Bools:
        """Legal joint choices, the last lever fastest. Shapes: (N, sum A) -> (N, prod A)"""
        joint, first = np.ones((len(mask), 1), np.bool_), 0
        for choices in self.choices:
            own = mask[:, first : first + choices]
            joint = (joint[:, :, None] & own[:, None, :]).reshape(len(mask), -1)
            first += choices
        return joint

    def check(self, actions: ArrayLike, rows: int, slots: int) -> Actions:
        """Return actions as integers, or say what is wrong with them. Shape: (B, S, H)"""
        asked, width = np.asarray(actions), slots * len(self.levers)
        if asked.shape != (rows, width):
            raise SpecError("action", f"shape {asked.shape}", f"shape ({rows}, {width})")
        if not np.issubdtype(asked.dtype, np.integer):
            bad = "NaN" if asked.dtype.kind == "f" and np.isnan(asked).any() else str(asked.dtype)
            raise SpecError("action", bad, "integers >= 0")
        asked = asked.reshape(rows, slots, -1).astype(np.int64, copy=False)
        wrong = (asked < 0) | (asked >= np.array(self.choices))
        if wrong.any():
            choices = self.choices[int(np.nonzero(wrong)[2][0])]
            raise SpecError("action", int(asked[wrong][0]), f"integers 0..{choices - 1}")
        return asked

    def legalise(self, actions: Actions, masks: Bools) -> tuple[Actions, Actions]:
        """Put masked choices right; count them by row.

        Shapes: (B, S, H), (B, S, sum A) -> (B, S, H), (B,)
        """
        first = self._ends - self.choices
        masked = ~np.take_along_axis(masks, actions + first, axis=2)
        clipped = masked.sum(axis=(1, 2))
        legal = actions
        while masked.any():
            legal = np.where(masked, self._instead[legal + first], legal)
            masked = ~np.take_along_axis(masks, legal + first, axis=2)
        return legal, clipped

    def decide(self, actions: Actions, scene: Scene) -> Decision:
        """Orders until the next tick; where levers order the same, the largest. Shape: (B, S, H)"""
        orders: dict[str, Any] = {}
        for h, lever in enumerate(self.levers):
            for name, value in lever.orders(actions[..., h], scene).items():
                orders[name] = np.maximum(orders[name], value) if name in orders else value
        return Decision(**orders)
