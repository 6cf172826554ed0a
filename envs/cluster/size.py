"""How large the tables of a row must be.

Shapes: F functions, G GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster


@dataclass(frozen=True)
class Size:
    """Room of a row's tables."""

    functions: int
    nodes: int
    gpus: int
    kinds: int
    families: int
    images: int
    llms: int
    llm_batch: int

    @classmethod
    def of(cls, clusters: Sequence[Cluster], functions: int = 0, gpus: int = 0) -> Size:
        """Room for each of some clusters, and at least for so many functions and GPUs."""
        images = max(len(c.images) for c in clusters)
        return cls(
            max(functions, *(len(c.functions) for c in clusters)),
            max(len(c.all_nodes) for c in clusters),
            max(gpus, *(len(c.gpus) for c in clusters)),
            max(len(c.kinds) for c in clusters),
            max(len(c.families) for c in clusters),
            max(functions, images) if images else 0,  # a function may be an image of its own
            max(sum(f.llm is not None for f in c.functions) for c in clusters),
            max(f.llm.max_batch if f.llm else 0 for c in clusters for f in c.functions),
        )

    def check(self, cluster: Cluster) -> None:
        """Raise SpecError unless a cluster fits."""
        found = Size.of([cluster])
        for f in fields(self):
            if getattr(found, f.name) > getattr(self, f.name):
                accepted = f"<= {getattr(self, f.name)} (room of the tables)"
                raise SpecError(f"cluster.{f.name}", getattr(found, f.name), accepted)
