"""What the live engine wants of a real backend, one class an order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """Bring an instance of `fn` onto `gpu`."""

    instance: int
    fn: int
    gpu: int
    source: str
    """disk, host or remote; a peer GPU's weights are read from disk here."""


@dataclass(frozen=True)
class Drop:
    """Take an instance off its GPU; `to_host`: its weights stay in host memory."""

    instance: int
    fn: int
    gpu: int
    to_host: bool


@dataclass(frozen=True)
class Run:
    """Execute one batch."""

    instance: int
    fn: int
    gpu: int
    requests: tuple[int, ...]


@dataclass(frozen=True)
class FetchHost:
    """Bring a host copy of `fn`; report `ready(t, instance)`."""

    instance: int
    fn: int


@dataclass(frozen=True)
class DropHost:
    """Forget the host copy of `fn`."""

    fn: int


@dataclass(frozen=True)
class Reject:
    """Answer a request with an error: dropped by rule, or failed with its instance."""

    request: int
    failed: bool


Effect = Load | Drop | Run | FetchHost | DropHost | Reject
