"""What single deviations from the heuristic cost: counterfactual data, and a network on them.

Groups of clusters run the same traffic. The first of each keeps to the neutral choice; the others
begin every window in its state, and in each of them one function makes another choice of one lever
for a few ticks. What the whole cluster then costs more over the window than the first does is that
deviation's cost: traffic does not depend on what is decided, so the difference is the deviation's
doing, with its effect on all functions in it. A network learns to foresee it from what the
function's row shows. The policy deviates where that saves more than a margin: one step of policy
improvement on the heuristic (rollouts: Bertsekas and Castanon, 1999).

Rewards of the ids cannot say this as well: the online price of memory is a half to a quarter of
what memory is worth to the small, full clusters here, and a reward shared by all functions is noise
to each.

Shapes: B clusters, S slots, N samples, K columns, H levers, M choices of all levers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stoker.agents.function_rows import BILLED, FunctionRows
from stoker.envs.levers import Levers

WINDOW = 15
"""Ticks over which a deviation's costs are counted."""
HELD = 5
"""Ticks for which a deviation is held."""
WORST = 3.0
"""Costs are clipped at so many mean cold starts, so that no sample owns the fit."""
SHARE = 0.15
"""Of the samples that choose when to stop."""
BATCH, EPOCHS, RATE, DECAY = 1024, 60, 2e-3, 1e-3
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Deviations:
    """Samples: who deviated how, and what that cost."""

    seen: Floats
    """Shape: (N, K)"""
    lever: Ints
    """Shape: (N,)"""
    choice: Ints
    """Number of the choice among those of its lever. Shape: (N,)"""
    cost: Floats
    """In mean cold starts of the cluster. Shape: (N,)"""


class _Window:
    """The deviations of one window, one a cluster."""

    def __init__(self, rows: FunctionRows, seen: Floats, groups: int, rng: np.random.Generator):
        core, levers = rows.core, rows.core.levers
        clusters, slots = core.num_envs, core.slots
        every = np.arange(clusters)
        self.function = rng.integers(slots, size=clusters)
        self.row = every * slots + self.function
        choices = np.array(levers.choices)
        self.lever = rng.choice(len(choices), size=clusters, p=choices / choices.sum())
        self.choice = rng.integers(choices[self.lever])
        heads = np.tile(np.unravel_index(levers.neutral, levers.choices), (clusters, 1))
        self.told = (every % groups > 0) & (self.choice != heads[every, self.lever])
        heads[every, self.lever] = np.where(self.told, self.choice, heads[every, self.lever])
        self.joint = np.ravel_multi_index(tuple(heads.T), levers.choices)
        self.seen, self.cost, self.groups = seen[self.row].copy(), np.zeros(clusters), groups

    def samples(self) -> Deviations:
        """Costs beyond those of the first cluster of each group."""
        first = self.cost.reshape(-1, self.groups)[:, :1].repeat(self.groups, axis=1).reshape(-1)
        cost = (self.cost - first).astype(np.float32)
        keep = self.told
        return Deviations(self.seen[keep], self.lever[keep], self.choice[keep], cost[keep])


def collect(
    rows: FunctionRows, groups: int, episodes: int, seed: int, done: Callable[[int], None]
) -> Deviations:
    """Deviate through so many episodes of every cluster.

    Args:
        rows: whose core draws every problem for `groups` neighbouring clusters.
        groups: clusters a group.
        episodes: of each cluster.
        seed: of the deviations; the problems are those of the rows' seed.
        done: told how many episodes are over.
    """
    rng = np.random.default_rng([seed, 1])
    found: list[Deviations] = []
    seen, window, tick, ended = rows.reset(), None, 0, 0
    actions = np.full(rows.num_envs, rows.core.levers.neutral)
    while ended < episodes:
        if tick % WINDOW == 0:
            seen = level(rows, seen, groups)
            window = _Window(rows, seen, groups, rng)
        assert window is not None
        asked = actions.copy()
        if tick % WINDOW < HELD:
            asked[window.row] = window.joint
        seen, _, over, _ = rows.step(asked)
        window.cost += rows.spent[:, :, :BILLED].sum(axis=(1, 2)) / rows.told["scale"]
        tick += 1
        if over.any():  # all episodes are equally long; a window cut short says nothing
            tick, ended = 0, ended + 1
            done(ended)
        elif tick % WINDOW == 0:
            found.append(window.samples())
    parts = ("seen", "lever", "choice", "cost")
    return Deviations(*(np.concatenate([getattr(d, p) for d in found]) for p in parts))


def level(rows: FunctionRows, seen: Floats, groups: int) -> Floats:
    """Put every cluster into the state of its group's first; return what is seen then.

    An earlier deviation may still be felt, and what follows would be its doing, too.
    """
    core = rows.core
    for k in range(core.num_envs):
        if k % groups:
            core.copy_row(k - k % groups, k)
    parts = seen.reshape(core.num_envs // groups, groups, -1)
    return np.repeat(parts[:, :1], groups, axis=1).reshape(seen.shape)


def fit(samples: Deviations, levers: Levers, hidden: tuple[int, ...], seed: int) -> nn.Sequential:
    """Learn what a deviation costs: observations to every lever's choices.

    Only differences to the neutral choice have a meaning.

    Returns:
        Tanh layers and a last one for all choices. Shapes: (N, K) -> (N, M)
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 2])
    count, columns = samples.seen.shape
    widths = [columns, *hidden]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.Tanh()]
    network = nn.Sequential(*layers, nn.Linear(widths[-1], sum(levers.choices)))
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    seen = torch.as_tensor(samples.seen)
    cost = torch.as_tensor(np.clip(samples.cost, -WORST, WORST))
    first = np.cumsum(levers.choices) - levers.choices
    neutral = first + np.unravel_index(levers.neutral, levers.choices)
    told = torch.as_tensor(first[samples.lever] + samples.choice)[:, None]
    base = torch.as_tensor(neutral[samples.lever])[:, None]

    def error(at: NDArray[np.int64]) -> Tensor:
        which = torch.as_tensor(at)
        out = network(seen[which])
        foreseen = out.gather(1, told[which]) - out.gather(1, base[which])
        return ((foreseen[:, 0] - cost[which]) ** 2).mean()

    held = rng.random(count) < SHARE
    train, check = np.flatnonzero(~held), np.flatnonzero(held)
    least, best = np.inf, network.state_dict()
    for _ in range(EPOCHS):
        for at in np.array_split(rng.permutation(train), max(len(train) // BATCH, 1)):
            optimiser.zero_grad()
            error(at).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            now = float(error(check))
        if now < least:
            least, best = now, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best)
    return network


def preference(
    network: nn.Sequential, levers: Levers, margin: float, sharpness: float
) -> nn.Sequential:
    """Turn costs into preferences over joint choices: minus their sum, the neutral ones cheaper.

    Args:
        network: of `fit`.
        levers: it was made for.
        margin: what a deviation must save.
        sharpness: preference a mean cold start.

    Returns:
        The same network with another last layer. Shapes: (N, K) -> (N, A)
    """
    last = network[-1]
    assert isinstance(last, nn.Linear)
    heads = np.stack(np.unravel_index(np.arange(np.prod(levers.choices)), levers.choices), axis=1)
    first = np.cumsum(levers.choices) - levers.choices
    neutral = first + np.unravel_index(levers.neutral, levers.choices)
    joint = torch.zeros(len(heads), sum(levers.choices))
    joint.scatter_(1, torch.as_tensor(heads + first), 1.0)
    cheaper = torch.zeros(sum(levers.choices))
    cheaper[torch.as_tensor(neutral)] = margin
    made = nn.Linear(last.in_features, len(heads))
    with torch.no_grad():
        made.weight.copy_(-sharpness * joint @ last.weight)
        made.bias.copy_(-sharpness * joint @ (last.bias - cheaper))
    return nn.Sequential(*network[:-1], made)
