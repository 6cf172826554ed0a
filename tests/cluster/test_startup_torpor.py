"""Torpor's sources against hand-worked latencies and the bounds of a pipelined swap."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.startup.pipeswitch import Layers
from stoker.envs.cluster.startup.torpor import Swap

# 16 GiB: 2 s over PCIe, 0.25 s over NVLink; execution 1 s in four groups.
MODEL = Swap(16.0, 1.0, pcie_gib_s=8.0, nvlink_gib_s=64.0, groups=4)
seconds = st.floats(0.0, 10.0)
rates = st.floats(0.5, 100.0)
swaps = st.builds(Swap, seconds, seconds, rates, rates, st.integers(1, 16), st.floats(0.0, 0.5))


def test_the_three_latencies_by_hand() -> None:
    # Host: the last of four copies ends at 2 s, its quarter of the execution follows.
    # Peer: the first copy ends at 1/16 s, the whole execution follows.
    assert (MODEL.run_s, MODEL.peer_s, MODEL.host_s) == (1.0, 1.0625, 2.25)
    assert replace(MODEL, groups=1).host_s == 3.0
    # Four overheads of 0.25 s make the copy 3 s.
    assert replace(MODEL, alpha_s=0.25).host_s == 3.25


def test_the_source_is_the_quickest_that_there_is() -> None:
    assert MODEL.choose(resident_idle=True, on_peer=True) == ("run", 1.0)
    assert MODEL.choose(resident_idle=False, on_peer=True) == ("peer", 1.0625)
    assert MODEL.choose(resident_idle=False, on_peer=False) == ("host", 2.25)


def test_a_slow_peer_link_loses_to_the_host_and_equals_take_the_first() -> None:
    slow = replace(MODEL, nvlink_gib_s=4.0)
    assert slow.choose(resident_idle=False, on_peer=True) == ("host", 2.25)
    alike = replace(MODEL, nvlink_gib_s=8.0)
    assert alike.choose(resident_idle=False, on_peer=True)[0] == "peer"
    empty = replace(MODEL, size_gib=0.0, groups=1)
    assert empty.choose(resident_idle=True, on_peer=True)[0] == "run"


@given(swaps)
def test_a_swap_takes_between_the_longer_part_and_the_sum(swap: Swap) -> None:
    copy_s = swap.groups * swap.alpha_s + swap.size_gib / swap.pcie_gib_s
    slack = 1e-9 * (1.0 + copy_s + swap.exec_s)
    assert max(copy_s, swap.exec_s) - slack <= swap.host_s <= copy_s + swap.exec_s + slack


@given(swaps)
def test_a_swap_equals_its_groups_pipelined_one_by_one(swap: Swap) -> None:
    n = swap.groups
    layers = Layers((swap.size_gib / n,) * n, (swap.exec_s / n,) * n, swap.pcie_gib_s, swap.alpha_s)
    assert swap.host_s == pytest.approx(layers.finish_s((1,) * n), rel=1e-9, abs=1e-12)


@given(swaps)
def test_where_nvlink_is_faster_the_order_is_run_then_peer_then_host(swap: Swap) -> None:
    linked = replace(swap, nvlink_gib_s=2.0 * swap.pcie_gib_s)
    assert linked.choose(resident_idle=True, on_peer=True)[0] == "run"
    assert linked.choose(resident_idle=False, on_peer=True)[0] == "peer"


def test_many_groups_without_overhead_hide_the_shorter_part() -> None:
    assert replace(MODEL, groups=10**6).host_s == pytest.approx(2.0, rel=1e-5)
    assert replace(MODEL, groups=10**6, exec_s=5.0).host_s == pytest.approx(5.0, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"size_gib": -1.0}, "size_gib"),
        ({"exec_s": -1.0}, "exec_s"),
        ({"pcie_gib_s": 0.0}, "pcie_gib_s"),
        ({"nvlink_gib_s": 0.0}, "nvlink_gib_s"),
        ({"groups": 0}, "groups"),
        ({"groups": float("nan")}, "groups"),
    ],
)
def test_bad_swaps_are_refused_by_name(change: dict[str, float], field: str) -> None:
    with pytest.raises(SpecError) as refused:
        replace(MODEL, **change)  # type: ignore[arg-type]
    assert refused.value.field == field
