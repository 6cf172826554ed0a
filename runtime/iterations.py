"""Which tokens of which sequences the next iteration of a decoder computes.

Sarathi-Serve (Agrawal et al., OSDI 2024): every running sequence decodes one token, then prompts
are continued and admitted, first come first served, in chunks that fill the token budget.  When
pages run out the sequence that came last gives all of its own back and is computed again later
(recompute), its tokens so far being part of the prompt then.  Pure: no tensors, no clock.

Units: tokens, blocks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from stoker.runtime.blocks import Blocks

WATERMARK = 0.01
"""Share of the pages that admission leaves free: else the next decode would preempt at once."""


@dataclass(eq=False)
class Sequence:
    """One prompt and its continuation."""

    tokens: list[int]
    """The prompt, then what has been generated."""
    prompt_tokens: int
    max_tokens: int
    """Most tokens to generate."""
    end_tokens: frozenset[int] = frozenset()
    arrival: int = -1
    cached: int = 0
    """Positions whose keys and values lie in its pages."""
    blocks: list[int] = field(default_factory=list)
    preemptions: int = 0

    @property
    def pending(self) -> int:
        """Tokens that are known and not computed; 1 = it decodes."""
        return len(self.tokens) - self.cached

    @property
    def finish(self) -> str:
        """Why it is complete: stop or length; empty while it is not."""
        if len(self.tokens) > self.prompt_tokens and self.tokens[-1] in self.end_tokens:
            return "stop"
        return "length" if len(self.tokens) - self.prompt_tokens >= self.max_tokens else ""


class Iterations:
    """The waiting and the running sequences of one instance, and its pages.

    Args:
        blocks: pages of the cache.
        block_tokens: positions a page.
        max_batch: most sequences that run at a time.
        token_budget: most tokens an iteration; 0 = whole prompts.
    """

    def __init__(
        self, blocks: int, block_tokens: int = 16, max_batch: int = 32, token_budget: int = 512
    ) -> None:
        self.blocks = Blocks(blocks)
        self.block_tokens = block_tokens
        self.max_batch = max_batch
        self.token_budget = token_budget
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        """By arrival."""
        self.preemptions = 0
        self._arrivals = 0
        self._watermark = int(WATERMARK * blocks)

    def __len__(self) -> int:
        return len(self.waiting) + len(self.running)

    @property
    def most_tokens(self) -> int:
        """Longest sequence that the pages can ever hold: its last token is never cached."""
        return self.blocks.count * self.block_tokens + 1

    def add(self, sequence: Sequence) -> None:
        """Take a sequence in.

        Raises:
            ValueError: all pages together could not hold it.
        """
        asked = sequence.prompt_tokens + sequence.max_tokens
        if asked > self.most_tokens:
            raise ValueError(
                f"prompt and answer of up to {asked} tokens do not fit the key-value cache "
                f"({self.most_tokens} tokens)"
            )
        sequence.arrival = self._arrivals
        self._arrivals += 1
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Let go of a sequence, complete or not; its pages are free at once."""
        self._free(sequence)
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)

    def form(self) -> list[tuple[Sequence, int]]:
        """Choose the next iteration: sequences and how many of their pending tokens to compute.

        All pages that the iteration writes to are held when it returns.
        """
        left = self.token_budget or 2**62
        batch, prompts = self._decodes()
        left -= len(batch)
        for sequence in prompts:
            chunk = min(sequence.pending, left)
            if chunk > 0:
                batch.append((sequence, chunk))
                left -= chunk
        while self.waiting and left > 0 and self._admit():
            sequence = self.running[-1]
            chunk = min(sequence.pending, left)
            batch.append((sequence, chunk))
            left -= chunk
        return batch

    def _decodes(self) -> tuple[list[tuple[Sequence, int]], list[Sequence]]:
        """One token of each that decodes, as far as pages and budget reach; and the others."""
        batch: list[tuple[Sequence, int]] = []
        prompts: list[Sequence] = []
        most = self.token_budget or len(self.running)
        at = 0
        # Victims come from the end, so those that were passed keep their place.
        while at < len(self.running):
            sequence = self.running[at]
            if sequence.pending > 1 or sequence.cached == 0:
                prompts.append(sequence)
            elif len(batch) < most and self._extend(sequence):
                batch.append((sequence, 1))
            at += 1
        return batch, prompts

    def _extend(self, sequence: Sequence) -> bool:
        """Make sure of a page for the next position, at the cost of those that came later."""
        if len(sequence.blocks) * self.block_tokens > sequence.cached:
            return True
        while not self.blocks.free:
            last = self.running[-1]
            self._preempt(last)
            if last is sequence:
                return False
        sequence.blocks += self.blocks.take(1)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self._free(sequence)
        sequence.preemptions += 1
        self.preemptions += 1
        self.running.remove(sequence)
        self.waiting.appendleft(sequence)

    def _free(self, sequence: Sequence) -> None:
        self.blocks.give_back(sequence.blocks)
        sequence.blocks, sequence.cached = [], 0

    def _admit(self) -> bool:
        """Let the head of the line in if there are pages for all of its tokens."""
        head = self.waiting[0]
        need = -(-len(head.tokens) // self.block_tokens)
        spare = self._watermark if self.running else 0
        if len(self.running) >= self.max_batch or self.blocks.free - need < spare:
            return False
        self.waiting.popleft()
        head.blocks = self.blocks.take(need)
        self.running.append(head)
        return True
