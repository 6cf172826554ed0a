"""What the live engine wants of a real backend, one class an order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from stoker.envs.cluster.effects import DROP, DROP_HOST, FETCH_HOST, LOAD, REJECT, RUN
from stoker.envs.cluster.tables import FAILED, HOST, REMOTE


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


@dataclass(frozen=True)
class SetTokenBudget:
    """From the next iteration on a decoder computes at most so many tokens in one; 0 = no limit."""

    fn: int
    tokens: int


Effect = Load | Drop | Run | FetchHost | DropHost | Reject | SetTokenBudget


def decode(record: tuple[int, ...], following: NDArray[Any]) -> Effect:
    """Read an order that the engine has recorded.

    Args:
        record: its kind and five numbers.
        following: request after each in its batch. Shape: (N,)
    """
    kind, inst, fn, gpu, a, b = record
    if kind == LOAD:
        return Load(inst, fn, gpu, {HOST: "host", REMOTE: "remote"}.get(a, "disk"))
    if kind == DROP:
        return Drop(inst, fn, gpu, bool(a))
    if kind == RUN:
        chain = [a]
        for _ in range(b - 1):
            chain.append(int(following[chain[-1]]))
        return Run(inst, fn, gpu, tuple(chain))
    if kind == FETCH_HOST:
        return FetchHost(inst, fn)
    if kind == DROP_HOST:
        return DropHost(fn)
    assert kind == REJECT
    return Reject(a, b == FAILED)
