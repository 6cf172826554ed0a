"""Targets that are not legal: what is clipped, left out, counted or refused.

Units: GiB.
"""

import math
from typing import Any

import numpy as np
import pytest
from by_hand import model

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.cluster.target_table import legalize_targets
from stoker.envs.cluster.targets import Targets
from stoker.envs.workload.workload import Workload


def gpus(*gib: float, kinds: str = "", **changes: Any) -> Node:
    named = kinds or "g" * len(gib)
    return Node(tuple(Gpu(s, kind=k) for s, k in zip(gib, named, strict=True)), **changes)


def legal(cluster: Cluster, function: list[int], **columns: Any) -> tuple[Any, int]:
    asked = Targets(np.zeros(len(function), int), np.array(function, int), **columns)
    found, clipped = legalize_targets(asked, [cluster], possible=True)
    return found, int(clipped[0])


def test_values_out_of_range_are_clipped_and_counted() -> None:
    cluster = Cluster(gpus(8.0, 80.0, kinds="xy"), (model("a"),))
    found, clipped = legal(cluster, [0] * 6, min=[-1, 3, 1, 0, 0, 0], max=[5, 2, 9, -4, 9, 9],
                           weight=[0.0, 0.0, math.nan, 0.0, -1.0, 2.0])  # fmt: skip
    assert clipped == 5
    assert found.min.tolist() == [0, 2, 1, 0, 0, 0] and found.max.tolist() == [5, 2, 9, 0, 9, 9]
    assert found.weight.tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 2.0]
    mixed: dict[str, Any] = {"gpu": [0, 1, 1], "gpu_class": [-1, 0, -1], "tier": [0, 0, 7]}
    found, clipped = legal(cluster, [0, 0, 0], **mixed)
    assert (
        clipped == 2 and found.gpu_class.tolist() == [-1] * 3 and found.tier.tolist() == [0, 0, 1]
    )


def test_a_row_that_names_nothing_is_left_out_and_counted() -> None:
    cluster = Cluster(gpus(8.0, 80.0), (model("a"),))
    found, clipped = legal(cluster, [0, 1, 0, -1, 0], gpu=[2, 0, -2, 0, 1])
    assert clipped == 4 and found.gpu.tolist() == [1]
    found, clipped = legal(cluster, [0, 0], gpu_class=[0, 1])
    assert clipped == 1 and found.gpu_class.tolist() == [0]


def test_floors_are_clipped_to_the_memory_in_the_order_of_their_rows() -> None:
    cluster = Cluster(gpus(8.0, 12.0, host_gib=5.0), (model("a"), model("b"), model("c", 10.0)))
    found, clipped = legal(cluster, [0, 1, 0, 2], gpu=[0, 0, -1, 1], min=[1, 3, 9, 1])
    assert found.min.tolist() == [1, 1, 3, 0] and clipped == 3
    found, clipped = legal(cluster, [0, 1, 0], tier=1, min=1)
    assert found.min.tolist() == [1, 0, 1] and clipped == 1  # the third is the first's copy
    kin = {"family": "kin", "shared_gib": 3.0}
    family = Cluster(gpus(8.0), (model("a", **kin), model("b", **kin)))
    found, clipped = legal(family, [0, 1], min=[2, 9])
    assert found.min.tolist() == [2, 3] and clipped == 1  # 3 + 2 * 1 + 3 * 1


def test_floors_of_functions_over_several_gpus_need_so_many_of_a_class_on_a_node() -> None:
    wide = Function("a", 8.0, 8.0, gpus=2)  # 4 GiB on each
    cluster = Cluster((gpus(8.0, 8.0, 4.0, kinds="xxy"), gpus(4.0, 4.0)), (wide,))
    found, clipped = legal(cluster, [0, 0, 0], gpu_class=[0, -1, 1], min=[1, 9, 1])
    assert found.min.tolist() == [1, 2, 0] and clipped == 2
    found, clipped = legal(cluster, [0], gpu=0, min=1)
    assert found.min.tolist() == [0] and clipped == 1


def test_a_table_that_is_no_table_is_refused() -> None:
    with pytest.raises(SpecError, match=r"targets.gpu = \(3,\).*the shape of row, \(2,\)"):
        Targets([0, 0], [0, 0], gpu=[0, 1, 2])
    with pytest.raises(SpecError, match=r"targets.row = \(1, 1\).*one dimension"):
        Targets([[0]], 0)
    with pytest.raises(SpecError, match=r"targets.min = 'float64'.*whole numbers"):
        Targets([0], [0], min=[0.5])
    empty = Workload(np.zeros(0), np.zeros(0, np.int32), ("a",), 1.0)
    sim = Simulation([Cluster(gpus(8.0), (model("a"),))], [empty])
    with pytest.raises(SpecError, match=r"targets.row = 1 .*expected 0\.\.0"):
        sim.apply(Decision(targets=Targets([1], [0])))
