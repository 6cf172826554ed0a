"""Batches that slow each other on a GPU shared in space, against the published formulas.

Units: seconds, GiB.
"""

import pytest
from test_gpu_fractions import part
from test_gpu_sharing import ends, run

from stoker.envs.cluster.spec import Gpu


def test_linear_interference_is_that_of_the_formula() -> None:
    # a: 1 + 0.5 * 0.4 + 2 * 0.2 + 0.25 * 0.8 + 1 * 0.1 = 1.9
    # b: 1 + 0.5 * 0.2 + 2 * 0.4 + 0.25 * 0.1 + 1 * 0.8 = 2.725
    gpu = Gpu(
        8.0, sharing="spatial", interference="linear", coefficients=(0.5, 2.0, 0.25, 1.0, 1.0)
    )
    a = part("a", 0.5, compute_util=0.4, memory_util=0.8)
    b = part("b", 0.5, compute_util=0.2, memory_util=0.1)
    got = ends(run([a, b], [(0.0, 0), (1.0, 1)], (gpu,)))
    # a has 1 s left at 1 and ends at 2.9; b has done 1.9 / 2.725 of its 2 s and runs alone.
    assert got == pytest.approx([2.9, 2.9 + 2.0 - 1.9 / 2.725])


def test_interference_below_one_counts_as_none() -> None:
    gpu = Gpu(
        8.0, sharing="spatial", interference="linear", coefficients=(-1.0, 0.0, 0.0, 0.0, 1.0)
    )
    busy = {"compute_util": 0.5, "memory_util": 0.5}
    two = [part("a", 0.5, **busy), part("b", 0.5, **busy)]
    assert ends(run(two, [(0.0, 0), (0.0, 1)], (gpu,))) == [2.0, 2.0]


@pytest.mark.parametrize(
    ("one", "other", "slowdown"),
    [
        ((0.8, 0.2), (0.2, 0.8), 1.0),  # complementary: neither is exceeded
        ((0.8, 0.2), (0.8, 0.2), 1.6),  # compute 1.6
        ((0.1, 0.9), (0.3, 0.6), 1.5),  # memory 1.5
    ],
)
def test_excess_slows_all_by_what_they_ask_too_much(
    one: tuple[float, float], other: tuple[float, float], slowdown: float
) -> None:
    gpu = Gpu(8.0, sharing="spatial", interference="excess")
    a = part("a", 0.5, compute_util=one[0], memory_util=one[1])
    b = part("b", 0.5, compute_util=other[0], memory_util=other[1])
    both = ends(run([a, b], [(0.0, 0), (0.0, 1)], (gpu,)))
    assert both == pytest.approx([2.0 * slowdown, 2.0 * slowdown])
