"""Continuous batching on one instance of a decoder: requests join and leave between iterations.

Shapes: V vocabulary.  Units: tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from stoker.runtime.catalog import Generation, check_budget
from stoker.runtime.iterations import Iterations, Sequence
from stoker.runtime.llama import Llama
from stoker.runtime.pages import lay_out
from stoker.runtime.prompts import Prompt, check_length, read_prompt
from stoker.runtime.text import Text, Writer

Key = tuple[int, int]
"""Who asked for a sequence: the number of an order, and which of its payloads."""


@dataclass(eq=False)
class _Open:
    """A sequence, who asked for it, and how its tokens are drawn and written."""

    key: Key
    sequence: Sequence
    prompt: Prompt
    writer: Writer | None
    noise: torch.Generator | None
    pieces: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Token:
    """One token, as it came."""

    key: Key
    token: int
    text: str
    """Empty for a request of token numbers, and until a character is whole."""
    answer: dict[str, Any] | None
    """With the last one: all of it."""


class Generator:
    """The open sequences of an instance.

    Args:
        module: its decoder, bound to its weights.
        how: pages, batch and budget.
        text: its tokenizer.
    """

    def __init__(self, module: Llama, how: Generation, text: Text) -> None:
        self.module, self.how, self.text = module, how, text
        self.iterations = Iterations(how.blocks, how.block_tokens, how.max_batch, how.token_budget)
        self._cache: Tensor | None = None
        self._open: dict[int, _Open] = {}

    def bind(self, flat: Tensor) -> None:
        """Take a block of the arena as the cache. Shape: (bytes,)."""
        shape, how = self.module.shape, self.how
        sizes = (how.blocks, how.block_tokens, shape.kv_heads, shape.head_width)
        self._cache = flat.view(self.module.embedding.dtype).view(shape.layers, 2, *sizes)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def keys(self) -> set[Key]:
        """Who has asked for the open sequences."""
        return {entry.key for entry in self._open.values()}

    def set_token_budget(self, token_budget: int) -> None:
        """Change the budget from the next iteration on."""
        check_budget(token_budget)
        self.iterations.token_budget = token_budget

    def submit(self, key: Key, payload: Any) -> None:
        """Take a request in.

        Raises:
            ValueError: it cannot be served; nothing has changed.
        """
        prompt = read_prompt(payload)
        shape = self.module.shape
        tokens = list(prompt.tokens) if prompt.text is None else self.text.encode(prompt.text)
        check_length(prompt, tokens, shape.vocabulary, shape.context)
        ends = frozenset() if prompt.ignore_end else shape.end_tokens
        sequence = Sequence(tokens, len(tokens), prompt.max_tokens, ends)
        self.iterations.add(sequence)
        writer = Writer(self.text) if prompt.text is not None else None
        noise = torch.Generator().manual_seed(prompt.seed) if prompt.temperature else None
        self._open[id(sequence)] = _Open(key, sequence, prompt, writer, noise)

    def withdraw(self, key: Key) -> None:
        """Let go of a request; its pages are free at once."""
        for entry in [e for e in self._open.values() if e.key == key]:
            self._close(entry)

    def _close(self, entry: _Open) -> None:
        self.iterations.remove(entry.sequence)
        del self._open[id(entry.sequence)]

    def step(self) -> list[Token]:
        """Compute one iteration and return the tokens that it gave."""
        batch = self.iterations.form()
        if not batch or self._cache is None:
            return []
        module = self.module
        repeat = module.shape.heads // module.shape.kv_heads
        with torch.inference_mode():
            iteration, ordered = lay_out(batch, self.how.block_tokens, repeat, module.embedding)
            logits = module(iteration, self._cache)
            for sequence, count in batch:
                sequence.cached += count
            entries = [self._open[id(sequence)] for sequence in ordered]
            chosen = _choose(logits, entries)
        given = []
        for entry, token in zip(entries, chosen, strict=True):
            if not entry.sequence.pending:
                entry.sequence.tokens.append(token)
                given.append(self._give(entry, token))
        return given

    def _give(self, entry: _Open, token: int) -> Token:
        sequence = entry.sequence
        finish = sequence.finish
        text = entry.writer.write(token) if entry.writer is not None and finish != "stop" else ""
        entry.pieces.append(text)
        if not finish:
            return Token(entry.key, token, text, None)
        self._close(entry)
        answer = {
            "tokens": sequence.tokens[sequence.prompt_tokens :],
            "text": "".join(entry.pieces) if entry.writer is not None else None,
            "finish": finish,
            "prompt_tokens": sequence.prompt_tokens,
            "preemptions": sequence.preemptions,
        }
        return Token(entry.key, token, text, answer)


def _choose(logits: Tensor, entries: list[_Open]) -> list[int]:
    """The most likely token of each row, or one drawn at its temperature. Shape: (rows, V)."""
    # Rows in mid-prompt draw nothing: how a prompt is cut must not move the noise along.
    drawn = [(row, e) for row, e in enumerate(entries) if e.noise and not e.sequence.pending]
    if drawn:
        rows = torch.tensor([row for row, _ in drawn], device=logits.device)
        heat = torch.tensor([e.prompt.temperature for _, e in drawn], device=logits.device)
        # Gumbel noise: the largest of the noisy logits is a draw from their softmax.
        uniform = torch.stack([torch.rand(logits.shape[1], generator=e.noise) for _, e in drawn])
        noise = -(-uniform.clamp_min(1e-20).log()).log()
        logits = logits.float()
        logits[rows] += noise.to(logits.device) * heat[:, None]
    return cast(list[int], logits.argmax(-1).tolist())
