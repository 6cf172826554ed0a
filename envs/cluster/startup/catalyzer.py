"""Catalyzer (ASPLOS 2020): start-up by restoring state instead of initialising it.

Four paths, each with its ready-made asset and its closed form:

| path | asset | time |
| --- | --- | --- |
| `cold` | none | sandbox + initialisation |
| `restore` | checkpoint image | sandbox + state + faults |
| `zygote` | image, and a sandbox built beforehand | specialise + state + faults |
| `fork` | template: a running sandbox of the function | fork |

    faults = touched share x image / page x fault cost    (memory is mapped, then loaded on demand)

Children of a template share its pages until they write: k children of one template hold
image (1 + k x written share).

Follows the paper's four boots (cold boot of the baseline, and its cold, warm and fork boot); the
linear fault term is ours, after its on-demand restore. Written from the abstract and from memory;
section numbers were not looked up. No public code was consulted. Quoted, not reproduced: less than
1 ms in the best case (sandbox fork).

Units: seconds, GiB.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.startup.arguments import PAGE_GIB, amount, count, share

PATHS = ("cold", "restore", "zygote", "fork")
"""From the path that needs nothing to the one that needs a running template."""


@dataclass(frozen=True)
class Sandbox:
    """The figures of one function that its start-up paths are made of.

    Raises:
        SpecError: a negative duration or size, a share outside [0, 1].
    """

    sandbox_s: float
    """Build an empty sandbox."""
    init_s: float
    """Initialise the runtime and the application in it."""
    state_s: float
    """Map an image and recover the state that cannot wait."""
    specialise_s: float
    """Turn a zygote into a sandbox of this function."""
    fork_s: float
    """Fork a template."""
    image_gib: float
    touched_share: float
    """Share of the image that a start touches."""
    written_share: float
    """Share of the image that a child writes, and so holds a copy of."""
    fault_s: float
    """Load one 4 KiB page of the image on demand."""

    def __post_init__(self) -> None:
        durations = ("sandbox_s", "init_s", "state_s", "specialise_s", "fork_s", "fault_s")
        for name in (*durations, "image_gib"):
            amount(name, getattr(self, name))
        for name in ("touched_share", "written_share"):
            share(name, getattr(self, name))

    @property
    def faults_s(self) -> float:
        """Time of loading the touched pages on demand."""
        return self.touched_share * self.image_gib / PAGE_GIB * self.fault_s

    def startup_s(self, path: str) -> float:
        """Compute the start-up time over a path of PATHS.

        Raises:
            SpecError: no such path.
        """
        require(path in PATHS, "path", path, " | ".join(PATHS))
        return {
            "cold": self.sandbox_s + self.init_s,
            "restore": self.sandbox_s + self.state_s + self.faults_s,
            "zygote": self.specialise_s + self.state_s + self.faults_s,
            "fork": self.fork_s,
        }[path]

    def quickest(self, ready: Collection[str]) -> str:
        """Choose the quickest path whose asset is ready; `cold` always is.

        Raises:
            SpecError: no such path.
        """
        return min(("cold", *ready), key=self.startup_s)

    def break_even_share(self) -> float:
        """Compute the touched share below which restoring beats initialising, in [0, 1]."""
        gained_s = self.init_s - self.state_s
        all_faults_s = self.image_gib / PAGE_GIB * self.fault_s
        if gained_s <= 0.0:
            return 0.0
        return gained_s / all_faults_s if gained_s < all_faults_s else 1.0

    def forked_gib(self, children: int) -> float:
        """Compute the memory of a template and its children.

        Raises:
            SpecError: a negative number of children.
        """
        count("children", children, least=0)
        return self.image_gib * (1.0 + children * self.written_share)
