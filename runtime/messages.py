"""What the controller's process and a worker process say to each other over their pipe.

Units: seconds, bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stoker.runtime.catalog import Deployment

DISK, HOST = "disk", "host"
WITHDRAWN = "withdrawn"
"""Why an order failed that the controller took back."""


@dataclass(frozen=True)
class WorkerSpec:
    """All that a worker is told when it starts."""

    gpu: int
    device: str
    """cpu, or cuda:<index>"""
    arena_bytes: int
    deployments: tuple[Deployment, ...]
    threads: int = 1
    """Threads of one operator: more than one is slower on small, shared machines."""
    cold_disk: bool = False
    """Drop a weight file from the page cache after each read, so that disk means disk."""


@dataclass(frozen=True)
class Command:
    """One order. `kind`: attach, load, drop, run, generate, withdraw, budget, fetch or ping."""

    number: int
    kind: str
    fn: int = -1
    instance: int = -1
    source: str = DISK
    payloads: tuple[Any, ...] = ()
    place: int = -1
    """Offset in the host pool to load from, drop to or fetch to; -1 = none."""
    size: int = 0
    """Bytes of the host pool, whose descriptor follows (attach); a token budget (budget)."""
    target: int = 0
    """Number of the order to take back (withdraw)."""


@dataclass(frozen=True)
class Reply:
    """The end of one order; `number` -1 is the greeting of a worker that is ready."""

    number: int
    seconds: float = 0.0
    """Time the order took in the worker, its wait for the thread excluded."""
    value: Any = None
    error: str | None = None
    """None, or one line for the user."""


@dataclass(frozen=True)
class Progress:
    """What one iteration of a decoder gave."""

    items: tuple[tuple[int, int, int, str], ...]
    """Number of the order, which of its payloads, the token, and what text it completes."""
