"""Which random stream each row draws its episodes from.

Shapes: B rows.  Units: seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster
from stoker.envs.problems import Problems, Rng, stream
from stoker.envs.workload import Workload

Seed = int | Sequence[int | None] | None


class RowStreams:
    """One stream a (seed, group of rows, episode), whatever the number of rows.

    Args:
        problems: what the streams draw.
        rows: B.
        groups: so many neighbouring rows share a stream.
    """

    def __init__(self, problems: Problems, rows: int, groups: int) -> None:
        self.problems, self.groups = problems, groups
        self.episode = np.zeros(rows, np.int64)
        self.seeds: list[int] = []

    def reseed(self, seed: Seed) -> bool:
        """Go to the first episode of a seed (True), or without one to every row's next (False).

        A sequence gives row k the stream of row 0 of its k-th seed.
        """
        if seed is None and self.seeds:
            self.episode += 1
            return False
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        if isinstance(seed, Sequence):
            found = [int(s) for s in seed if s is not None]
            if len(found) != len(self.episode):
                raise SpecError("seed", seed, f"an integer or {len(self.episode)} integers")
            self.seeds = found
        else:
            self.seeds = [int(seed)]
        if min(self.seeds) < 0:
            raise SpecError("seed", min(self.seeds), ">= 0")
        self.episode[:] = 0
        return True

    def draw(self, k: int) -> tuple[Cluster, Workload, Rng]:
        """Draw the problem of row k's present episode; its stream goes on from there."""
        alone = len(self.seeds) > 1
        rng = stream(self.seeds[k] if alone else self.seeds[0], 0 if alone else k // self.groups,
                     int(self.episode[k]))  # fmt: skip
        cluster, workload = self.problems.sample(rng)
        if len(workload) == 0:
            raise SpecError("workload", "no requests", "at least one request")
        return cluster, workload, rng
