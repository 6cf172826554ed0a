"""ServerlessLLM (OSDI 2024): multi-tier pipelined loading and the start-up time it promises.

A checkpoint crosses its legs (network, disk, PCIe) in chunks; each leg carries one chunk at a time,
in order, and all legs work at once. The slowest leg decides, not the sum:

    S = sum of 1 / rate,  n chunks of c:   c S + (n - 1) c / min rate   ->   size / min rate

Follows the paper (sections on the multi-tier loader and on start-up-time estimation; section
numbers and the form q + n / b are recalled, not looked up). The public scheduler differs: it counts
one leg only, wait + size / disk, or size / PCIe without the wait if the weights are in the pinned
pool (sllm/schedulers/storage_aware_scheduler.py, read), and breaks ties by node id, as here.

Units: seconds, GiB, GiB/s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.startup.arguments import amount, rate


class Route(NamedTuple):
    """One way to get a checkpoint onto a device of one server."""

    wait_s: float
    """Queue before the load begins."""
    legs_gib_s: tuple[float, ...]
    """Rates of the legs in order: (PCIe,) from host memory, (disk, PCIe) from disk."""


def chunked_load_s(size_gib: float, legs_gib_s: Sequence[float], chunk_gib: float) -> float:
    """Compute the time of a load in chunks of `chunk_gib`; the last one is what remains.

    Exact for unbounded buffers between the legs: with k full chunks and a rest, the longest path
    goes over to the rest at some leg b, so the time is the greatest over b of
    c (sum of 1 / rate up to b + (k - 1) / min rate up to b) + rest x sum of 1 / rate from b on.

    Raises:
        SpecError: a negative or infinite size, a rate or chunk that is not positive, no leg.
    """
    _check(size_gib, legs_gib_s)
    rate("chunk_gib", chunk_gib)
    full, rest_gib = divmod(size_gib, chunk_gib)
    if full == 0.0:
        return store_and_forward_s(size_gib, legs_gib_s)
    s_gib = [1.0 / leg for leg in legs_gib_s]
    paths = []
    for b in range(len(s_gib)):
        before_s = math.fsum(s_gib[: b + 1]) + (full - 1.0) * max(s_gib[: b + 1])
        paths.append(chunk_gib * before_s + rest_gib * math.fsum(s_gib[b:]))
    return max(paths)


def store_and_forward_s(size_gib: float, legs_gib_s: Sequence[float]) -> float:
    """Compute the time of a load in one chunk: the sum over the legs.

    Raises:
        SpecError: as `chunked_load_s`.
    """
    _check(size_gib, legs_gib_s)
    return math.fsum(size_gib / leg for leg in legs_gib_s)


def limit_load_s(size_gib: float, legs_gib_s: Sequence[float]) -> float:
    """Compute the time of a load in very many chunks: size over the slowest leg.

    Raises:
        SpecError: as `chunked_load_s`.
    """
    _check(size_gib, legs_gib_s)
    return size_gib / min(legs_gib_s)


def estimate_s(size_gib: float, route: Route) -> float:
    """Estimate the start-up time over a route: queue wait + size / slowest bandwidth.

    Raises:
        SpecError: as `chunked_load_s`, or a negative wait.
    """
    amount("wait_s", route.wait_s)
    return route.wait_s + limit_load_s(size_gib, route.legs_gib_s)


def choose(size_gib: float, routes: Sequence[Route]) -> int:
    """Choose the route of least estimate, the first of equals; return its index.

    Raises:
        SpecError: as `estimate_s`, or no route.
    """
    require(len(routes) > 0, "routes", routes, "at least one route")
    return min(range(len(routes)), key=lambda i: estimate_s(size_gib, routes[i]))


def _check(size_gib: float, legs_gib_s: Sequence[float]) -> None:
    amount("size_gib", size_gib)
    require(len(legs_gib_s) > 0, "legs_gib_s", legs_gib_s, "at least one rate")
    for leg in legs_gib_s:
        rate("legs_gib_s", leg)
