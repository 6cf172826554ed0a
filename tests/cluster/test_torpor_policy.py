"""Torpor's rules and orders on swaps that can be worked out by hand.  Units: seconds, GiB."""

import numpy as np
import pytest

from stoker.baselines.torpor import Torpor
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node
from stoker.envs.workload.workload import Workload

WARM, COLD, HOST = 0, 1, 3


def run(
    calls: list[tuple[float, int]], slo_s: tuple[float, ...], policy: Torpor | FixedTtl
) -> tuple[list[float], list[int]]:
    """Models of 4 GiB and 1 s of service, one of which fits; PCIe 8 GiB/s, disk 1; finish, tier."""
    functions = tuple(
        Function(f"m{k}", 4.0, 4.0, alpha_s=1.0, slo_s=s) for k, s in enumerate(slo_s)
    )
    node = Node((Gpu(4.0, sharing="exclusive"),), host_gib=64.0, disk=Link(1.0), pcie=Link(8.0))
    at, which = np.array([t for t, _ in calls]), np.array([f for _, f in calls], np.int32)
    workload = Workload(at, which, tuple(f.name for f in functions), 1000.0)
    out = simulate(Cluster(node, functions), workload, policy)[0].outcome
    return out.finish_s.tolist(), out.tier.tolist()


def test_a_model_comes_from_host_memory_each_time_and_its_copy_outlasts_the_swap() -> None:
    # After 8 s the disk has brought both. Each call finds the other model: 0.5 s of PCIe, 1 s.
    calls = [(100.0, 0), (200.0, 1), (300.0, 0), (300.0 + 50.0, 0)]
    finish, tier = run(calls, (9.0, 9.0), Torpor())
    assert finish == pytest.approx([101.5, 201.5, 301.5, 351.0])
    assert tier == [HOST, HOST, HOST, WARM]


def test_without_it_the_model_comes_from_disk() -> None:
    finish, tier = run([(100.0, 0), (200.0, 1)], (9.0, 9.0), FixedTtl())
    assert finish == pytest.approx([105.5, 205.5])
    assert tier == [COLD, COLD]


@pytest.mark.parametrize(("order", "finish"), [("edf", [4.5, 3.0]), ("fcfs", [3.0, 4.5])])
def test_what_is_due_first_is_swapped_in_first(order: str, finish: list[float]) -> None:
    # 0 runs until 101.5; then 1, which came first and is due at 110, or 2, due at 105.
    calls = [(100.0, 0), (100.1, 1), (100.2, 2)]
    found, _ = run(calls, (9.0, 10.0, 5.0), Torpor(order=order))
    assert found == pytest.approx([101.5, *(100.0 + s for s in finish)])
