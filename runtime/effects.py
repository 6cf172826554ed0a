"""What a planner wants done; each is carried out by the backend and comes back as a fact."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """Bring an instance up from `disk` or `host`."""

    instance: int
    fn: int
    gpu: int
    source: str


@dataclass(frozen=True)
class Drop:
    """Take an instance down; with `to_host` its weights stay in host memory."""

    instance: int
    fn: int
    gpu: int
    to_host: bool


@dataclass(frozen=True)
class Run:
    """Serve these requests as one batch."""

    instance: int
    fn: int
    gpu: int
    requests: tuple[int, ...]


@dataclass(frozen=True)
class FetchHost:
    """Bring weights from disk into host memory."""

    fn: int


@dataclass(frozen=True)
class DropHost:
    """Give the host copy up."""

    fn: int


@dataclass(frozen=True)
class Reject:
    """Refuse a request."""

    request: int


Effect = Load | Drop | Run | FetchHost | DropHost | Reject
