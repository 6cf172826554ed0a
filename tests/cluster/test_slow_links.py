"""Links that slow down while weights pass over them, against times worked out by hand.

Units: seconds, GiB.
"""

import pytest
from test_faults import model, start, starts

from stoker.envs.cluster.faults import Faults, SlowLink
from stoker.envs.cluster.spec import Cluster, Gpu, Link, Node


@pytest.mark.parametrize("discipline", ["fair", "fifo"])
@pytest.mark.parametrize("link", ["disk", "pcie"])
def test_a_load_in_progress_goes_on_at_the_new_rate(discipline: str, link: str) -> None:
    # 4 GiB at 1 GiB/s from 1 on; half the rate from 2 to 4 moves 1, the last 2 end at 6.
    node = Node((Gpu(8.0),), **{link: Link(1.0, discipline)})
    slow = (SlowLink(2.0, 0, link, 0.5, 2.0),)
    sim = start(Cluster(node, (model(),)), [(0.0, 0)], Faults(slow=slow))
    assert starts(sim) == [pytest.approx(6.0)]


@pytest.mark.parametrize("discipline", ["fair", "fifo"])
def test_those_in_line_and_those_that_share_feel_it_too(discipline: str) -> None:
    # Two of 4 GiB; a quarter of the rate, by two spells at once, from 3 to 7. fair: 1 GiB each is
    # moved by 3, 0.5 by 7, the last 2.5 end at 12. fifo: 2 by 3, 1 by 7, done at 8; then 4 s.
    node = Node((Gpu(8.0),), disk=Link(1.0, discipline))
    slow = (SlowLink(3.0, 0, "disk", 0.5, 4.0), SlowLink(3.0, 0, "disk", 0.5, 4.0))
    sim = start(Cluster(node, (model("a"), model("b"))), [(0.0, 0), (0.0, 1)], Faults(slow=slow))
    at = [12.0, 12.0] if discipline == "fair" else [8.0, 12.0]
    assert starts(sim) == [pytest.approx(t) for t in at]
    assert sim.state.link[0]["busy_s"][0] == pytest.approx(11.0)


@pytest.mark.parametrize("discipline", ["fair", "fifo"])
def test_a_load_in_one_go_feels_a_slow_link_that_it_passes_through(discipline: str) -> None:
    # Disk 2, PCIe 1 GiB/s: 1 GiB a second from 1 on. PCIe at a fifth from 2 to 7 moves 1, rest 2.
    node = Node((Gpu(8.0),), disk=Link(2.0, discipline), pcie=Link(1.0), loading="pipelined")
    slow = (SlowLink(2.0, 0, "pcie", 0.2, 5.0),)
    sim = start(Cluster(node, (model(),)), [(0.0, 0)], Faults(slow=slow))
    assert starts(sim) == [pytest.approx(9.0)]
