"""Several replicas in plain Python, one iteration at a time, behind a routing rule.

Uses the replica of replica_reference.py; shares no code with the engine.  Units: seconds, blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from replica_reference import Replica, Request, iteration_s


@dataclass
class Site:
    """One replica, what it was handed and not yet looked at, and when its batch ends."""

    replica: Replica
    inbox: list[Request] = field(default_factory=list)
    started: float = 0.0
    end: float = math.inf

    def __post_init__(self) -> None:
        x = self.replica
        x.free, x.margin = x.num_blocks, int(x.watermark * x.num_blocks)
        x.waiting, x.running, x.batch = [], [], []

    def outstanding(self) -> int:
        x = self.replica
        return len(self.inbox) + len(x.waiting) + len(x.running) + len(x.batch)

    def freeness(self) -> float:
        x = self.replica
        waits = self.inbox + x.waiting
        divisor = len(x.running) + len(x.batch) + bool(waits)
        if divisor == 0:
            return math.inf
        return (x.free - sum(x.need(q) for q in waits)) / divisor

    def finish(self) -> None:
        """Book the batch that ran until `end`."""
        assert self.replica.run(self.started) == self.end
        self.replica.batch = []

    def form(self, now: float) -> None:
        x = self.replica
        x.waiting += self.inbox
        self.inbox = []
        while True:
            before = len(x.waiting)
            x.batch = []
            getattr(x, x.scheduler)()
            if x.batch or len(x.waiting) <= before:
                break
        self.end = math.inf
        if x.batch:
            chunks = [(c, q.done) for q, c in x.batch if q.done < q.prompt]
            contexts = [q.done for q, _ in x.batch if q.done >= q.prompt]
            tokens = sum(c for _, c in x.batch)
            self.started, self.end = now, now + iteration_s(x.figures, tokens, chunks, contexts)


def serve(sites: list[Site], requests: list[Request], router: str) -> list[int]:
    """Serve all; returns the site of each request."""
    chosen: list[int] = []
    coming = list(requests)
    while True:
        at = min([x.end for x in sites] + [coming[0].arrival if coming else math.inf])
        if at == math.inf:
            return chosen
        while coming and coming[0].arrival == at:
            q = coming.pop(0)
            rank: list[Any] = (
                [-x.freeness() for x in sites]
                if router == "freeness"
                else [x.outstanding() for x in sites]
            )
            chosen.append(rank.index(min(rank)))
            site = sites[chosen[-1]]
            q.rejected = q.total > site.replica.max_tokens or not site.replica.possible(q)
            if not q.rejected:
                site.inbox.append(q)
        for x in sites:
            if x.end == at:
                x.finish()
                x.form(at)
            elif x.end == math.inf and x.inbox:
                x.form(at)
