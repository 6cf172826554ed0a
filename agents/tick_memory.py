"""The network of a recurrent learner of the ids with ticks, as it is judged and exported.

Shapes: N functions, K columns, A joint choices, H units of the LSTM, M = 2 H of memory.
"""

from __future__ import annotations

from typing import Any

import torch
from sb3_contrib import RecurrentPPO
from torch import Tensor, nn

STEPS = 8
"""For which observations that stand in a row are taken as one function's, see `gained`."""


class RecurrentPreference(nn.Module):
    """The part of a recurrent network that chooses: observations and memory to logits and memory.

    A step of its LSTM is spelt out (torch.nn.LSTMCell's equations), so that it exports for any
    number of functions. A function starts with a memory of zeros.
    """

    def __init__(self, model: RecurrentPPO) -> None:
        super().__init__()
        policy: Any = model.policy
        cell = policy.lstm_actor
        assert cell.num_layers == 1
        self.memory = 2 * int(cell.hidden_size)
        self.take, self.keep = nn.Linear(cell.input_size, 1), nn.Linear(cell.hidden_size, 1)
        self.take.weight, self.take.bias = cell.weight_ih_l0, cell.bias_ih_l0
        self.keep.weight, self.keep.bias = cell.weight_hh_l0, cell.bias_hh_l0
        self.body, self.head = policy.mlp_extractor.policy_net, policy.action_net

    def forward(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes: (N, K), (N, M) -> (N, A), (N, M)"""
        hidden, cell = memory.chunk(2, dim=1)
        gates = self.take(observation) + self.keep(hidden)
        enter, retain, new, leave = gates.chunk(4, dim=1)
        cell = torch.sigmoid(retain) * cell + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        return self.head(self.body(hidden)), torch.cat([hidden, cell], dim=1)

    def gained(self, observation: Tensor) -> Tensor:
        """What it remembers before each observation, as if STEPS in a row were a function's.

        Shapes: (N, K) -> (N, M)
        """
        before = torch.zeros(len(observation), self.memory)
        with torch.no_grad():
            for step in range(1, STEPS):
                seen = slice(step - 1, len(observation) - 1, STEPS)
                now = before[step::STEPS]
                now[:] = self(observation[seen], before[seen])[1][: len(now)]
        return before


def inputs_of(module: nn.Module, observation: Tensor) -> dict[str, Tensor]:
    """Name what a policy's network takes with these observations."""
    given = {"observation": observation}
    if isinstance(module, RecurrentPreference):
        given["memory"] = module.gained(observation)
    return given
