"""Levers on top of the hazard index's plan: neutral they are the index, ordered they are orders."""

import math

import numpy as np
import pytest

from stoker.baselines.base import Policy
from stoker.baselines.hazard import HazardIndex
from stoker.envs.cluster.decision import AS_ORDERED, Capabilities, Decision, Snapshot, legalize
from stoker.envs.cluster.outcome import Result
from stoker.envs.cluster.rules import hazard
from stoker.envs.cluster.simulation import Simulation, simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Rules
from stoker.envs.levers import HostCopy, Levers, Plan, Scene, Side
from stoker.envs.problems import SyntheticProblems
from stoker.envs.spread_problems import SpreadProblems
from stoker.envs.workload import Workload

PLANNED = Rules(eviction="hazard", plan="hazard")
INF = math.inf


class Levered(Policy):
    """One joint choice for everyone, every minute."""

    def __init__(self, levers: Levers, choice: tuple[int, ...]) -> None:
        self.rules, self._levers, self._choice = levers.rules, levers, choice

    def reset(self, cluster: Cluster, rows: int) -> None:
        self._scene = Scene.empty(rows, len(cluster.functions))
        self._scene.fill(0, cluster)

    def decide(self, snapshot: Snapshot) -> Decision:
        shape = (*snapshot.idle.shape, len(self._choice))
        return self._levers.decide(np.broadcast_to(self._choice, shape), self._scene)


class Every(HazardIndex):
    """The hazard index, looked at every minute without a word."""

    tick_s = 60.0


class Forever(Policy):
    """Keep to the next tick, load nothing."""

    rules = Rules(eviction="hazard")

    def decide(self, snapshot: Snapshot) -> Decision:
        return Decision(keep_alive_s=np.full(snapshot.idle.shape, INF))


def problem(seed: int) -> tuple[Cluster, Workload]:
    inner = SyntheticProblems(functions=8, hours=2.0, requests_per_s=0.1)
    return SpreadProblems(inner, dear=2, cheap=2).sample(np.random.default_rng(seed))


def same(one: Result, other: Result) -> bool:
    return one.outcome.finish_s.tobytes() == other.outcome.finish_s.tobytes() and (
        one.bill.total_usd == other.bill.total_usd
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_the_neutral_choice_is_the_hazard_index_to_the_byte(seed: int) -> None:
    cluster, workload = problem(seed)
    levers = Levers(Plan(), Side(), plan="hazard")
    neutral = tuple(lever.neutral for lever in levers.levers)
    (mine,) = simulate(cluster, workload, Levered(levers, neutral))
    (index,) = simulate(cluster, workload, Every())
    assert same(mine, index)


def test_a_choice_that_orders_is_that_order_under_no_plan() -> None:
    cluster, workload = problem(2)
    levers = Levers(Plan(), plan="hazard")
    (mine,) = simulate(cluster, workload, Levered(levers, (1,)))
    (kept,) = simulate(cluster, workload, Forever())
    (planned,) = simulate(cluster, workload, Every())
    assert same(mine, kept)
    assert not same(mine, planned)


def one_function() -> Simulation:
    """4 GiB on a GPU at 3.6 $/h (so that rent matters), called every 100 s for 2,000 s."""
    node = Node((Gpu(8.0, 3.6),))
    cluster = Cluster(node, (Function("a", 4.0, 4.0, alpha_s=1.0),))
    at = np.arange(10.0, 2000.0, 100.0)
    workload = Workload(at, np.zeros(len(at), np.int32), ("a",), 3000.0)
    return Simulation([cluster], [workload], PLANNED)


def order(variant: int, **orders: float) -> Decision:
    given = {name: np.full((1, 1), value) for name, value in orders.items()}
    return Decision(variant=np.full((1, 1), variant, np.int32), **given)


def test_an_order_ends_the_load_that_the_plan_had_set() -> None:
    sim = one_function()
    sim.run(1950.0)
    fn = sim.state.fn[0, 0]
    fn["prewarm_after_s"], fn["prewarm_timer"] = 90.0, 2000.0
    sim.apply(order(AS_ORDERED, keep_alive_s=7.0))
    assert (fn["prewarm_after_s"], fn["prewarm_timer"], fn["keep_alive_s"]) == (INF, INF, 7.0)


def test_what_the_plan_has_set_outlasts_a_tick_and_what_was_ordered_the_next_plan() -> None:
    sim = one_function()
    sim.run(1950.0)
    fn = sim.state.fn[0, 0]
    fn["keep_alive_s"], fn["prewarm_after_s"] = 33.0, 44.0
    sim.apply(order(hazard.AS_PLANNED, keep_alive_s=INF))
    assert (fn["keep_alive_s"], fn["prewarm_after_s"]) == (33.0, 44.0)
    sim.apply(order(AS_ORDERED, keep_alive_s=5.0, prewarm_after_s=80.0, prewarm_keep_s=9.0))
    assert (fn["keep_alive_s"], fn["prewarm_after_s"], fn["prewarm_keep_s"]) == (5.0, 80.0, 9.0)


def test_the_numbers_of_the_plan_s_variants_agree_and_are_made_legal() -> None:
    assert hazard.AS_ORDERED == AS_ORDERED
    asked = Decision(variant=np.array([[7, -1]], np.int32), multiplier=np.array([[np.nan, -2.0]]))
    legal, clipped = legalize(asked, Capabilities(), np.ones((1, 2), np.int64))
    assert legal.variant is not None and legal.multiplier is not None
    assert legal.variant.tolist() == [[3, 0]]
    assert legal.multiplier.tolist() == [[1.0, 1e-6]]
    assert clipped.tolist() == [[2, 2]]


def test_host_copies_and_classes_are_ordered_and_masked_as_the_tables_say() -> None:
    functions = (Function("a", 4.0, 4.0), Function("b", 9.0, 9.0))
    nodes = (Node((Gpu(10.0, 4.0, "dear"),), host_gib=8.0), Node((Gpu(6.0, 1.0, "cheap"),)))
    cluster = Cluster(nodes, functions)
    assert HostCopy().mask(cluster).tolist() == [[True] * 3, [True, False, False]]
    assert Side().mask(cluster).tolist() == [[True] * 3, [True, True, False]]
    scene = Scene.empty(1, 3)
    scene.fill(0, cluster)
    choice = np.arange(3)[None]
    told = HostCopy().orders(choice, scene)
    assert told["host_keep_alive_s"].tolist() == [[0.0, INF, INF]]
    assert told["prewarm_host"].tolist() == [[0, 0, 1]]
    dear, cheap = cluster.kinds.index("dear"), cluster.kinds.index("cheap")
    assert Side().orders(choice, scene)["gpu_class"].tolist() == [[-1, dear, cheap]]
