"""A replica in plain Python lists, one iteration at a time: sarathi, vllm and orca.

Written from the description of Vidur's schedulers and event order, and of the natural rules where
`vidur` is off; shares no code with the engine.  Units: seconds, tokens, blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def iteration_s(
    figures: dict[str, Any],
    tokens: int,
    chunks: list[tuple[int, int]],
    contexts: list[int],
    table: Sequence[float] | None = None,
) -> float:
    """Closed form; chunks are (length, prefix); without a table the two-branch token time."""
    r, p, d = (figures[k] for k in ("roofline_ms", "prefill_layer_ms", "decode_layer_ms"))
    n = -(-tokens // 8) * 8
    total = max(r[0] + r[1] * n, r[2] + r[3] * n) if table is None else table[n // 8 - 1]
    attention = sum(
        max(p[0], p[1] + p[2] * c + p[3] * c * (k + c / 2) + p[4] * k) for c, k in chunks
    )
    g, layers = figures["batch_overhead"], figures["layers"]
    total += layers * attention * (1 + g * (len(chunks) > 1))
    if contexts:
        b, context = len(contexts), sum(contexts)
        decode = max(d[0] + d[1] * b, d[2] + d[3] * b + d[4] * context)
        total += layers * decode * (1 + g * (b > 1))
    return total / 1e3


@dataclass(eq=False)
class Request:
    """One request and what became of it."""

    q: int
    arrival: float
    prompt: int
    total: int
    done: int = 0
    blocks: int = 0
    restarts: int = 0
    scheduled: float | None = None
    tokens_at: list[float] = field(default_factory=list)
    completed: float | None = None
    rejected: bool = False


@dataclass
class Replica:
    """One replica; `serve` runs it to the end."""

    figures: dict[str, Any]
    scheduler: str
    budget: int
    num_blocks: int
    block_size: int
    max_batch: int
    max_tokens: int
    watermark: float
    vidur: bool

    def serve(self, requests: list[Request]) -> list[list[tuple[int, int]]]:
        """Serve all; returns each batch as (request, tokens)."""
        self.free = self.num_blocks
        self.margin = int(self.watermark * self.num_blocks)
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        coming, now, batches = list(requests), 0.0, []
        while True:
            while coming and coming[0].arrival <= now:
                new = coming.pop(0)
                if new.total <= self.max_tokens and self.possible(new):
                    self.waiting.append(new)
                else:
                    new.rejected = True
            before = sum(x.restarts for x in requests)
            self.batch: list[tuple[Request, int]] = []
            getattr(self, self.scheduler)()
            if self.batch:
                now = self.run(now)
                batches.append([(x.q, c) for x, c in self.batch])
            elif before == sum(x.restarts for x in requests):
                if not coming:
                    return batches
                now = coming[0].arrival

    def run(self, now: float) -> float:
        """Run the batch; returns when it ends."""
        chunks = [(c, x.done) for x, c in self.batch if x.done < x.prompt]
        contexts = [x.done for x, _ in self.batch if x.done >= x.prompt]
        tokens = sum(c for _, c in self.batch)
        end = now + iteration_s(self.figures, tokens, chunks, contexts)
        for x, c in self.batch:
            x.scheduled = now if x.scheduled is None else x.scheduled
            in_prompt = x.done < x.prompt
            x.done += c
            if in_prompt and x.done == x.prompt:
                x.done += 1
            if x.done > x.prompt:
                x.tokens_at.append(end)
            if x.done == x.total:
                x.completed = end
                self.free, x.blocks = self.free + x.blocks, 0
            else:
                self.running.append(x)
        assert 0 <= self.free <= self.num_blocks
        return end

    def ceil(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def need(self, x: Request) -> int:
        return self.ceil(self.max_tokens if self.scheduler == "orca" else x.prompt)

    def possible(self, x: Request) -> bool:
        """Whether an empty replica could serve it."""
        if self.scheduler == "vllm" and x.prompt > self.budget:
            return False
        if self.ceil(max(x.prompt, x.total - 1)) > self.num_blocks:
            return False
        return self.need(x) + (self.margin if self.vidur else 0) <= self.num_blocks

    def admissible(self, x: Request) -> bool:
        if self.scheduler == "orca":
            return self.free >= self.need(x)
        if not self.vidur and self.free == self.num_blocks:
            return self.need(x) <= self.free
        return self.free - self.need(x) >= self.margin

    def admit(self, c: int) -> None:
        x = self.waiting.pop(0)
        x.blocks = self.need(x)
        self.free -= x.blocks
        self.batch.append((x, c))

    def preempt(self, x: Request) -> None:
        self.free, x.blocks = self.free + x.blocks, 0
        if self.vidur or x.done >= x.prompt:
            x.prompt = x.done
        x.done, x.restarts = 0, x.restarts + 1
        if self.possible(x):
            self.waiting.insert(0, x)
        else:
            x.rejected = True

    def decode_pass(self) -> list[Request]:
        """One token each for those past their prompt; returns the others."""
        others = []
        while self.running:
            x = self.running.pop(0)
            if x.done < x.prompt:
                others.append(x)
                continue
            full = x.done > x.blocks * self.block_size
            lost = False
            while self.free < 1 and (self.vidur or full):
                victim = self.running.pop() if self.running else x
                self.preempt(victim)
                if victim is x:
                    lost = True
                    break
            if not lost:
                self.free, x.blocks = self.free - full, x.blocks + full
                self.batch.append((x, 1))
        return others

    def places(self) -> bool:
        return len(self.running) + len(self.batch) < self.max_batch

    def sarathi(self) -> None:
        if not self.vidur:
            self.running.sort(key=lambda x: x.arrival)
        left = lambda: self.budget - sum(c for _, c in self.batch)  # noqa: E731
        for x in self.decode_pass():
            c = min(x.prompt - x.done, left())
            if c > 0:
                self.batch.append((x, c))
            else:
                self.running.append(x)
        self.running.sort(key=lambda x: x.arrival)
        while self.waiting and self.places() and left() > 0 and self.admissible(self.waiting[0]):
            self.admit(min(self.waiting[0].prompt, left()))

    def vllm(self) -> None:
        while self.waiting and self.places() and self.admissible(self.waiting[0]):
            prompts = [c for _, c in self.batch] + [self.waiting[0].prompt]
            tokens = len(prompts) * max(prompts) if self.vidur else sum(prompts)
            if tokens > self.budget:
                break
            self.admit(prompts[-1])
        if not self.batch:
            self.running.sort(key=lambda x: x.arrival)
            self.decode_pass()

    def orca(self) -> None:
        self.batch = [(x, 1) for x in self.running]
        self.running = []
        while self.waiting and self.places() and self.admissible(self.waiting[0]):
            self.admit(self.waiting[0].prompt)
