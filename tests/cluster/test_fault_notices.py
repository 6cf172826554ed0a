"""What a policy hears of faults and when: notices, late telemetry, lost samples.

Units: seconds, GiB.
"""

import numpy as np
import pytest
from test_faults import COLD, INF, WARM, model, nodes

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.faults import Faults, NodeLoss
from stoker.envs.cluster.outcome import Result
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.workload.workload import Workload


class Listener(Policy):
    """Keeps everything, and notes what it sees and when."""

    rules = Rules()

    def __init__(self, tick_s: float = 10.0) -> None:
        self.tick_s = tick_s
        self.seen: list[tuple[float, float, int, int]] = []

    def reset(self, cluster: Cluster, rows: int) -> None:
        self.seen.clear()

    def decide(self, snapshot: Snapshot) -> Decision:
        if snapshot.now_s[0] < 100.0:
            arrivals, up = snapshot.arrivals[0].sum(), snapshot.nodes_up[0, 0]
            self.seen.append((snapshot.now_s[0], snapshot.age_s[0], int(arrivals), int(up)))
        return Decision()


def run(policy: Policy, cluster: Cluster, calls: list[float], faults: Faults | None) -> Result:
    workload = Workload(np.array(calls), np.zeros(len(calls), np.int32), ("a",), 100.0)
    return simulate(cluster, workload, policy, faults=faults)[0]


def test_a_policy_is_asked_at_its_ticks_and_when_nodes_come_and_go() -> None:
    # Announced at 13, lost at 18, offered again at 41; ticks at 0, 30, 60, 90.
    policy = Listener(30.0)
    run(policy, Cluster(nodes(), (model(),)), [], Faults((NodeLoss(13.0, 1, 23.0, 5.0),)))
    asked = [(t, up) for t, _, _, up in policy.seen]
    assert asked == [(0, 2), (13, 1), (18, 1), (30, 1), (41, 2), (60, 2), (90, 2)]


def test_a_policy_that_listens_moves_in_time() -> None:
    # The only instance idles on node 0, which goes at 40 + 5. Who loads at the notice is ready at
    # 41 on node 1; who does not starts at the call at 60.
    class Mover(Listener):
        def decide(self, snapshot: Snapshot) -> Decision:
            return Decision(prewarm=np.ones((1, 1), np.int32))

    faults, cluster = Faults((NodeLoss(40.0, 0, 100.0, 5.0),)), Cluster(nodes(), (model(),))
    found = [
        run(policy, cluster, [0.0, 60.0], faults).outcome.tier.tolist()
        for policy in (Mover(INF), Listener(INF))
    ]
    assert found == [[COLD, WARM], [COLD, COLD]]


def test_rows_have_clocks_of_their_own() -> None:
    # The second row's notices do not make the policy decide for the first one more often.
    class Counter(Listener):
        def decide(self, snapshot: Snapshot) -> Decision:
            self.seen.append(tuple(snapshot.now_s.tolist()))
            return Decision()

    work = Workload(np.array([1.0]), np.zeros(1, np.int32), ("a",), 100.0)
    policy, cluster = Counter(40.0), Cluster(nodes(), (model(),))
    faults = [None, Faults((NodeLoss(13.0, 1, 40.0),))]
    simulate([cluster] * 2, [work] * 2, policy, faults=faults)
    assert policy.seen == [(0, 0), (40, 13), (80, 40), (100, 53), (100, 80)]


def test_a_policy_sees_what_was_so_a_while_ago() -> None:
    # A call every 4 s from 1 on; ticks of 10 s, telemetry 15 s late: at 30 it sees the sample of
    # 10, with the three calls of 1, 5 and 9.
    policy, cluster = Listener(), Cluster(nodes(), (model(),))
    calls = [1.0 + 4.0 * k for k in range(20)]
    run(policy, cluster, calls, Faults(telemetry_delay_s=15.0))
    expected = [(0, 0, 0), (10, 10, 0), (20, 20, 0), (30, 20, 3), (40, 20, 5), (50, 20, 8)]
    assert [s[:3] for s in policy.seen[:6]] == expected
    run(policy, cluster, calls, None)
    assert [s[:3] for s in policy.seen[:3]] == [(0, 0, 0), (10, 0, 3), (20, 0, 5)]


def test_a_lost_sample_leaves_the_last_one_standing() -> None:
    policy, cluster = Listener(1.0), Cluster(nodes(), (model(),))
    run(policy, cluster, [0.25 + k for k in range(100)], Faults(telemetry_loss=0.5, seed=8))
    ages = np.array([age for _, age, _, _ in policy.seen])
    for now, age, arrivals, _ in policy.seen:
        assert arrivals == now - age
    assert set(np.diff(ages)) <= {1.0} | {-a for a in ages} | {0.0}  # one older, or fresh
    assert np.mean(ages == 0.0) == pytest.approx(0.5, abs=0.15)
