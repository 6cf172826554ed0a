"""Every rule by priority against a slow reference in plain Python, and by hand.

The reference follows the engine's choice where several functions have the same priority.
Shapes: N requests, F functions.  Units: seconds, MB; credits and priorities in ms.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from small_clusters import HEAP_RULES

from stoker.envs.cluster import replay
from stoker.envs.cluster.replay import cache_cluster
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Rules
from stoker.envs.workload.workload import Workload


@dataclass
class Priorities:
    """What the papers say of a function's standing; the lowest `value` leaves."""

    rule: str
    cost: list[float]
    size: list[float]
    clock: float = 0.0
    uses: Counter[int] = field(default_factory=Counter)
    standing: dict[int, float] = field(default_factory=dict)

    def use(self, f: int, t: float) -> None:
        self.uses[f] += 1
        n, cost, size = self.uses[f], self.cost[f], self.size[f]
        self.standing[f] = {
            "lru": t,
            "lfu": n,
            "greedy_dual": self.clock + n * cost / size,
            "greedy_dual_two_tier": self.clock + n * cost / size,  # there is no host memory here
            "freq": self.clock + n * cost,
            "size": self.clock + n / size,
            "landlord": cost,  # Young: the credit itself
        }[self.rule]

    def value(self, f: int) -> float:
        return self.standing[f] / self.size[f] if self.rule == "landlord" else self.standing[f]

    def evict(self, f: int, residents: set[int]) -> None:
        """Book that an instance of f leaves; f is among the residents."""
        if self.rule == "landlord":
            delta = self.value(f)
            for g in residents:
                self.standing[g] = max(self.standing[g] - delta * self.size[g], 0.0)
        self.clock = max(self.clock, self.value(f))


@dataclass
class Cache:
    """Containers in a list: function, last start, end of service."""

    rule: str
    size: list[float]
    warm_s: list[float]
    init_s: list[float]
    capacity_mb: float
    held: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.order = Priorities(self.rule, [1e3 * s for s in self.init_s], self.size)

    @property
    def functions(self) -> Counter[int]:
        return Counter(int(c[0]) for c in self.held)

    def call(self, f: int, t: float, gone: Counter[int]) -> int:
        """Serve a request as the engine did, which evicted `gone`; return 0 warm, 1 cold, 2 no."""
        free = [c for c in self.held if c[0] == f and c[2] <= t]
        if free:
            best = max(free, key=lambda c: c[1])
            best[1:] = t, t + self.warm_s[f]
            self.order.use(f, t)
            return 0
        idle = [c for c in self.held if c[2] <= t]
        if self.free_mb() + sum(self.size[int(c[0])] for c in idle) < self.size[f]:
            return 2
        self.make_room(f, t, gone)
        self.held.append([f, t, t + self.init_s[f] + self.warm_s[f]])
        self.order.use(f, t)
        return 1

    def free_mb(self) -> float:
        return self.capacity_mb - sum(self.size[int(c[0])] for c in self.held)

    def make_room(self, f: int, t: float, gone: Counter[int]) -> None:
        """Check that each victim was the least of all idle ones, and needed."""
        left = list(gone.elements())
        while left:
            assert self.free_mb() < self.size[f]
            victim = min(left, key=lambda g: (self.order.value(g), self.size[g]))
            least = min(self.order.value(int(c[0])) for c in self.held if c[2] <= t)
            assert self.order.value(victim) <= least + 1e-6
            self.order.evict(victim, {int(c[0]) for c in self.held})
            oldest = min((c for c in self.held if c[0] == victim and c[2] <= t), key=lambda c: c[1])
            self.held.remove(oldest)
            if self.functions[victim] == 0:
                self.order.uses[victim] = 0
            left.remove(victim)
        assert self.free_mb() >= self.size[f]


def start(cache: Cache, arrival: np.ndarray, function: np.ndarray) -> Simulation:
    names = tuple(str(k) for k in range(len(cache.size)))
    workload = Workload(arrival, function, names, float(arrival[-1]) + 100.0)
    cluster = cache_cluster(cache.size, cache.warm_s, cache.init_s, cache.capacity_mb)
    rules = Rules(scale_out="per_request", overload="drop", eviction=cache.rule)
    return Simulation([cluster], [workload], rules, track=False)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", HEAP_RULES)
def test_every_victim_is_that_of_the_slow_reference(rule: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, functions = 600, 9
    arrival = np.cumsum(rng.exponential(1.0, n))
    function = np.minimum(rng.integers(0, functions, n), rng.integers(0, functions, n))
    size = rng.integers(10, 60, functions).astype(float).tolist()
    warm, init = (
        rng.uniform(0.1, 2.0, functions).tolist(),
        rng.uniform(0.1, 4.0, functions).tolist(),
    )
    cache = Cache(rule, size, warm, init, 0.45 * sum(size))
    sim = start(cache, arrival, function.astype(np.int32))
    before: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    together = 0
    for t, f in zip(arrival.tolist(), function.tolist(), strict=True):
        sim.run(float(np.nextafter(t, np.inf)))
        after = Counter(dict(enumerate(sim.state.fn[0]["n"].tolist())))
        loads = int(sim.state.rows[0]["loads_disk"]) - seen[1]
        gone = before + Counter({f: loads}) - after
        seen[cache.call(f, t, gone)] += 1
        together += sum(gone.values()) > 1
        before = Counter({k: v for k, v in after.items() if v > 0})
        assert cache.functions == before
        assert sim.state.rows[0]["loads_disk"] == seen[1]
        assert sim.state.rows[0]["drops"] == seen[2]
    assert min(seen[0], seen[1]) > 100
    assert seen[2] > 0
    assert together > 5


def test_landlords_rent_by_hand() -> None:
    """A, B, C of 10, 10, 20 MB and 1, 2.5, 4 s: credits of 100, 250, 200 ms a MB; 30 MB.

    20 s: C needs 10 MB more. Rent of 100 a MB: A leaves. B keeps 1,500 ms, C comes with 4,000.
    30 s: A. B has 150 a MB, C 200: rent of 150, B leaves. C keeps 4,000 - 3,000 = 1,000 ms.
    35 s: a use restores C's credit to 4,000 in full.
    40 s: B. A has 100 a MB, C 200: A leaves, C keeps 2,000. Were it not for the use, C would leave.
    """
    arrival = np.array([0.0, 10.0, 20.0, 30.0, 35.0, 40.0])
    function = np.array([0, 1, 2, 0, 2, 1], np.int32)
    cache = Cache("landlord", [10.0, 10.0, 20.0], [0.1] * 3, [1.0, 2.5, 4.0], 30.0)
    sim = start(cache, arrival, function)
    credits = []
    for t in arrival.tolist():
        sim.run(float(np.nextafter(t, np.inf)))
        fn = sim.state.fn[0]
        rented = (fn["prio"] - sim.state.rows[0]["clock"]) * cache.size
        credits.append(np.where(fn["n"] > 0, rented, 0.0).round(6).tolist())
    assert credits == [
        [1000.0, 0.0, 0.0], [1000.0, 2500.0, 0.0], [0.0, 1500.0, 4000.0], [1000.0, 0.0, 1000.0],
        [1000.0, 0.0, 4000.0], [0.0, 2500.0, 2000.0],
    ]  # fmt: skip


def outcomes(rule: str, calls: list[int], init_s: list[float]) -> list[int]:
    """Outcomes of calls every 10 s on room for two of three functions of one size."""
    arrival = 10.0 * np.arange(len(calls))
    return replay.function_cache(
        arrival, calls, [10.0] * 3, [1.0] * 3, init_s, 20.0, rule, "stoker"
    ).outcome.tolist()


def test_landlord_does_not_count_uses_and_greedy_dual_does() -> None:
    # 0 is used three times; 1 costs twice as much. Counted, 0 is worth 3 and stays; else 1 stays.
    calls = [0, 0, 0, 1, 2]
    assert outcomes("greedy_dual", [*calls, 0], [1.0, 2.0, 1.0])[-1] == 0
    assert outcomes("landlord", [*calls, 0], [1.0, 2.0, 1.0])[-1] == 1
    assert outcomes("landlord", [*calls, 1], [1.0, 2.0, 1.0])[-1] == 0


def test_what_was_popular_once_stays_under_lfu_and_ages_under_freq() -> None:
    # 0 has six uses, then 1 and 2 alternate. lfu evicts one for the other for ever; under freq each
    # eviction lifts the clock by 1,000, and 0, at 6,000, leaves in the end.
    calls = [0] * 6 + [1, 2] * 8
    assert outcomes("lfu", calls, [1.0] * 3)[6:] == [1] * 16
    assert outcomes("freq", calls, [1.0] * 3)[-2:] == [0, 0]
    assert outcomes("lfu", [*calls, 0], [1.0] * 3)[-1] == 0
    assert outcomes("freq", [*calls, 0], [1.0] * 3)[-1] == 1
