"""Which copy leaves a full host memory, against a slow reference; and the way down from a device.

Shapes: F functions, N requests.  Units: seconds, GiB.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Rules
from stoker.envs.workload.workload import Workload

INF = math.inf
WARM, COLD, HOST = 0, 1, 3
GAP_S = 100.0


@dataclass
class Reference:
    """One device that holds one instance; its weights go down to the host when it leaves."""

    rule: str
    weights: list[float]
    saved_s: list[float]
    score: list[float]
    capacity: float
    device: int = -1
    used: int = 0
    clock: float = 0.0
    since: dict[int, float] = field(default_factory=dict)
    key: dict[int, float] = field(default_factory=dict)
    uses: dict[int, int] = field(default_factory=dict)
    gone: int = 0

    def call(self, f: int, t: float) -> int:
        """Serve a request; return where the weights came from."""
        if self.device == f:
            self.used += 1
            return WARM
        if self.device >= 0:
            self.demote(self.device, t)
        tier = HOST if f in self.since else COLD
        self.since.pop(f, None)
        self.device, self.used = f, 1
        return tier

    def demote(self, g: int, t: float) -> None:
        if self.weights[g] > self.capacity:
            self.uses[g] = 0
            return
        while self.capacity - sum(self.weights[h] for h in self.since) < self.weights[g] - 1e-9:
            victim = min(self.since, key=lambda h: (self.standing(h), h))
            self.clock = max(self.clock, self.key[victim])
            del self.since[victim]
            self.uses[victim] = 0
            self.gone += 1
        self.uses[g] = self.uses.get(g, 0) + self.used
        self.since[g] = t
        self.key[g] = self.clock + self.uses[g] * self.saved_s[g] / self.weights[g]

    def standing(self, h: int) -> float:
        return {"lru": self.since, "greedy_dual": self.key, "score": self.score}[self.rule][h]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rule", ["lru", "greedy_dual", "score"])
def test_every_host_victim_is_that_of_the_slow_reference(rule: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, count = 500, 10
    function = np.minimum(rng.integers(0, count, n), rng.integers(0, count, n)).astype(np.int32)
    weights = (rng.integers(4, 28, count) / 4.0).tolist()
    ceiling = rng.choice([0.5, 1.0, 4.0], count).tolist()
    scores = rng.integers(0, 5, (3, count)).astype(float)
    functions = tuple(
        Function(str(k), w, 8.0, load_gib_s=c)
        for k, (w, c) in enumerate(zip(weights, ceiling, strict=True))
    )
    arrival = GAP_S * np.arange(1.0, n + 1.0)
    node = Node((Gpu(8.0),), host_gib=6.0 if seed == 3 else 14.0, pcie=Link(8.0))
    sim = Simulation(
        [Cluster(node, functions)],
        [Workload(arrival, function, tuple(f.name for f in functions), 1e6)],
        Rules(scale_out="per_request", overload="drop", host_eviction=rule),
        track=False,
    )
    saved_s = [w / c for w, c in zip(weights, ceiling, strict=True)]
    reference = Reference(rule, weights, saved_s, scores[0].tolist(), node.host_gib)
    orders = {"host_keep_alive_s": np.full((1, count), INF)}
    expected = []
    for k, (t, f) in enumerate(zip(arrival.tolist(), function.tolist(), strict=True)):
        if k % 170 == 0:  # the scores of copies that lie there change too
            reference.score = scores[k // 170].tolist()
            sim.apply(Decision(host_eviction_score=np.array([reference.score]), **orders))
        expected.append(reference.call(f, t))
        sim.run(t + GAP_S / 2)
        there = np.flatnonzero(sim.state.nf[0]["state"] == 1).tolist()
        assert there == sorted(reference.since), k
    sim.run()
    assert sim.result().outcome.tier.tolist() == expected
    assert min(reference.gone, expected.count(HOST), expected.count(COLD)) > 25


def run_down(
    calls: list[tuple[float, int]], demotion: str, functions: int = 1, **orders: Any
) -> Simulation:
    """Disk of 2, PCIe of 8 GiB/s, 8 GiB of host; models of 4 GiB that stay a second."""
    node = Node(
        (Gpu(40.0),), host_gib=8.0, disk=Link(2.0), pcie=Link(8.0), demotion=demotion
    )  # fmt: skip
    specs = tuple(Function(f"f{k}", 4.0, 4.0) for k in range(functions))
    at, which = np.array([t for t, _ in calls]), np.array([f for _, f in calls], np.int32)
    workload = Workload(at, which, tuple(f.name for f in specs), 1e6)
    sim = Simulation([Cluster(node, specs)], [workload], Rules())
    orders = {"keep_alive_s": 1.0, "host_keep_alive_s": INF, **orders}
    sim.apply(Decision(**{k: np.full((1, functions), v) for k, v in orders.items()}))
    return sim


def test_a_copy_on_its_way_down_holds_host_memory_and_serves_nobody_yet() -> None:
    # Ready at 2.5, gone at 3.5; the copy is there at 3.5 + 4/8 = 4.
    sim = run_down([(0.0, 0)], "copy", host_keep_alive_s=5.0)
    seen = []
    for t in (3.4, 3.6, 3.9, 4.1, 8.9, 9.1):  # its keep-alive begins when it is complete
        sim.run(t)
        now = sim.snapshot()
        seen.append((now.on_host.tolist()[0][0], now.host_free_gib.tolist()[0]))
    assert seen == [(0, 8.0), (0, 4.0), (0, 4.0), (1, 4.0), (1, 4.0), (0, 8.0)]
    assert sim.result().bill.host_gib_s == pytest.approx(4.0 * (9.0 - 3.5))
    assert sim.snapshot().free_gib.tolist() == [[40.0]]


@pytest.mark.parametrize(("demotion", "tier"), [("instant", HOST), ("copy", COLD)])
def test_a_start_up_meets_the_copy_on_its_way(demotion: str, tier: int) -> None:
    sim = run_down([(0.0, 0), (3.75, 0), (20.0, 0)], demotion)
    sim.run()
    assert sim.result().outcome.tier.tolist() == [COLD, tier, HOST]
    assert sim.result().outcome.start_s[1] == pytest.approx(3.75 + (2.5 if tier == COLD else 0.5))


def test_a_copy_on_its_way_down_does_not_leave_for_another() -> None:
    # Three expire together, two fit: the third finds both on their way and is not kept. Copies that
    # are there at once make way for each other.
    calls = [(0.0, 0), (0.0, 1), (0.0, 2)]
    for demotion, kept in (("copy", [1, 1, 0]), ("instant", [0, 1, 1])):
        sim = run_down(calls, demotion, functions=3)
        sim.run()
        assert sim.snapshot().on_host.tolist() == [kept], demotion


def test_scores_that_are_not_numbers_are_clipped_and_counted() -> None:
    sim = run_down([], "instant", functions=2, host_eviction_score=math.nan)
    assert sim.state.fn[0]["host_eviction_score"].tolist() == [0.0, 0.0]
    assert sim.result().counters["clipped"] == 2
