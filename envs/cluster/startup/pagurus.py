"""Pagurus (ATC 2022): an idle container is lent to another function instead of being recycled.

A function with n containers, arrivals at rate lambda and mean service 1 / mu is an M/M/n queue. One
container is idle if n - 1 would still do:

    P(wait <= t) = 1 - C(n, lambda / mu) exp(-(n mu - lambda) t)       C Erlang's waiting chance

An idle container is packed as a lender for the functions whose packages are most similar (cosine of
the 0/1 package vectors), as long as no package is wanted in two versions, and for no more than a
limit. A lent start skips the sandbox and the packages; the function's own part remains.

Follows the public code (idle_container_algorithm.py and inter_controller.py, read), which is where
the formulas stand; the paper's sections were not looked up. The code goes through the functions in
random order while it packs, here the most similar come first; in the code read the limit is 30, in
another version 40. It also calls a container idle that has served nothing for a fixed time (20 s
in the version read); that is a keep-alive, and the engine's business. Quoted, not reproduced:
84.6 % of the cold start-ups alleviated, to 16 ms.

Units: seconds, requests a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.startup.arguments import amount, count, rate, share

Packages = Mapping[str, str]
"""Name -> version."""
LIMIT = 30
"""Functions that one lender can help."""


def waiting_chance(rate_hz: float, service_s: float, containers: int) -> float:
    """Compute the chance that a request waits in M/M/n (Erlang C); 1 if the queue is unstable.

    Raises:
        SpecError: a negative rate or number of containers, a service that is not positive.
    """
    amount("rate_hz", rate_hz)
    rate("service_s", service_s)
    count("containers", containers, least=0)
    load = rate_hz * service_s
    if load >= containers:
        return 1.0
    blocked = 1.0
    for n in range(1, containers + 1):
        blocked = load * blocked / (n + load * blocked)
    return containers * blocked / (containers - load * (1.0 - blocked))


def wait_within(rate_hz: float, service_s: float, containers: int, wait_s: float) -> float:
    """Compute P(wait <= wait_s) in M/M/n; 0 if the queue is unstable.

    Raises:
        SpecError: as `waiting_chance`, or a negative wait.
    """
    amount("wait_s", wait_s)
    chance = waiting_chance(rate_hz, service_s, containers)
    spare_hz = containers / service_s - rate_hz
    if spare_hz <= 0.0:
        return 0.0
    return 1.0 - chance * math.exp(-spare_hz * wait_s)


def has_idle(
    rate_hz: float, service_s: float, containers: int, wait_s: float, required: float
) -> bool:
    """Test whether the function meets its target with one container less.

    The last container is never idle by this test.

    Raises:
        SpecError: as `wait_within`, or a required chance outside [0, 1].
    """
    share("required", required)
    if containers <= 1:
        count("containers", containers, least=0)
        return False
    return wait_within(rate_hz, service_s, containers - 1, wait_s) > required


def similarity(one: Packages, other: Packages) -> float:
    """Compute the cosine of two 0/1 package vectors: common / sqrt(product of counts).

    A function without packages is similar to all.
    """
    if not one or not other:
        return 1.0
    return len(one.keys() & other.keys()) / math.sqrt(len(one) * len(other))


def conflict(one: Packages, other: Packages) -> bool:
    """Test whether some package is wanted in two versions."""
    return any(one[name] != other[name] for name in one.keys() & other.keys())


def helped(lender: str, functions: Mapping[str, Packages], limit: int = LIMIT) -> list[str]:
    """Choose the functions that a lender's container is packed for, the most similar first.

    Args:
        lender: whose container is idle; a key of `functions`.
        functions: packages of every function; equals keep this order.
        limit: how many functions at most.

    Raises:
        SpecError: an unknown lender, a limit below 0.
    """
    require(lender in functions, "lender", lender, " | ".join(functions))
    count("limit", limit, least=0)
    own = functions[lender]
    packed = dict(own)
    others = (name for name in functions if name != lender)
    chosen: list[str] = []
    for name in sorted(others, key=lambda name: -similarity(own, functions[name])):
        if len(chosen) < limit and not conflict(packed, functions[name]):
            packed |= functions[name]
            chosen.append(name)
    return chosen


@dataclass(frozen=True)
class Start:
    """The parts of a start-up that lending does and does not save.

    Raises:
        SpecError: a negative duration.
    """

    sandbox_s: float
    """Create the container."""
    packages_s: float
    """Set up what the lender's image holds already: packages, framework, device context."""
    own_s: float
    """What is the function's alone: its code, its weights."""
    rent_s: float
    """Fork the lender's container and hand it over."""

    def __post_init__(self) -> None:
        for name in ("sandbox_s", "packages_s", "own_s", "rent_s"):
            amount(name, getattr(self, name))

    @property
    def cold_s(self) -> float:
        """Time of a cold start."""
        return self.sandbox_s + self.packages_s + self.own_s

    @property
    def lent_s(self) -> float:
        """Time of a start in a lent container; pays iff renting < sandbox + packages."""
        return self.rent_s + self.own_s
