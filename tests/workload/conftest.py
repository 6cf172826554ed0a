"""Real traces for the tests that check facts about them; without them those tests skip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stoker.envs.workload import Workload, locate


@pytest.fixture
def real() -> Callable[[str], Path]:
    def find(name: str) -> Path:
        path = locate(name)
        if path is None:
            pytest.skip(f"trace {name} is not on this machine (set STOKER_DATA, or fetch it)")
        return path

    return find


@pytest.fixture
def make() -> Callable[..., Workload]:
    """Build a workload from (arrival, function) pairs."""

    def build(pairs: list[tuple[float, int]], horizon_s: float, service_s: float) -> Workload:
        arrival = np.array([a for a, _ in pairs], np.float64)
        function = np.array([f for _, f in pairs], np.int32)
        names = tuple("abcdefgh"[: int(function.max()) + 1])
        return Workload(arrival, function, names, horizon_s, np.full(len(pairs), service_s))

    return build
