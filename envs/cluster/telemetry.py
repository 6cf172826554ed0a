"""Late and lost telemetry: the Snapshot that reaches a policy is an older one.

A sample is taken at each decision. It is lost with its row's chance; else it arrives once it is
`delay_s` old. A policy sees the newest that has arrived, with its own clock (`now_s`), the age of
the sample (`age_s`) and, since the provider tells it at once, `nodes_up` as it is. The very first
sample stands until another has arrived.

Shapes: B rows.  Units: seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.decision import Snapshot
from stoker.envs.cluster.faults import TELEMETRY_STREAM, Faults

CURRENT = ("now_s", "age_s", "nodes_up")


class Telemetry:
    """The samples on their way to a policy.

    Args:
        faults: of each row, None = its telemetry is perfect.
    """

    def __init__(self, faults: Sequence[Faults | None]) -> None:
        some = [f or Faults() for f in faults]
        self._delay_s = np.array([f.telemetry_delay_s for f in some])
        self._loss = np.array([f.telemetry_loss for f in some])
        self._rng = [np.random.default_rng([f.seed, TELEMETRY_STREAM]) for f in some]
        self._samples: deque[tuple[Snapshot, NDArray[np.bool_]]] = deque()

    @property
    def perfect(self) -> bool:
        """Whether every sample arrives at once."""
        return not (self._delay_s.any() or self._loss.any())

    def see(self, snapshot: Snapshot) -> Snapshot:
        """Take a sample and return what has reached the policy."""
        if self.perfect:
            return snapshot
        now_s = snapshot.now_s
        copies = {f.name: np.array(getattr(snapshot, f.name)) for f in fields(Snapshot)}
        drawn = np.array([rng.random() for rng in self._rng])
        there = (drawn >= self._loss) | (len(self._samples) == 0)
        self._samples.append((Snapshot(**copies), there))
        newest = np.zeros(len(now_s), np.int64)
        for k, (sample, there) in enumerate(self._samples):
            newest[there & (now_s - sample.now_s >= self._delay_s)] = k
        rows = np.arange(len(now_s))
        seen = {
            name: np.stack([getattr(sample, name) for sample, _ in self._samples])[newest, rows]
            for name in copies
        }
        arrived = replace(snapshot, **{n: seen[n] for n in seen if n not in CURRENT})
        arrived = replace(arrived, age_s=now_s - seen["now_s"])
        for _ in range(int(newest.min())):
            self._samples.popleft()
        return arrived
