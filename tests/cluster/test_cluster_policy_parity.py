"""`replay` is thin: the same rules through Cluster and Policy give the same bytes."""

import math

import numpy as np
import pytest
from oracle_cases import POLICIES, Row, label, needs_oracles, rows
from oracle_cases import trace as read_trace

from stoker.baselines.base import Policy
from stoker.envs.cluster import replay
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.presets import preset
from stoker.envs.cluster.replay import cache_cluster
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Rules
from stoker.envs.workload.workload import Workload

pytestmark = needs_oracles
CASES = [r for r in rows("faascache_sim_results.csv") if r["policy"] in POLICIES]


class KeepAlive(Policy):
    """The same keep-alive for every function, said again at every tick."""

    def __init__(self, rules: Rules, ttl_s: float, tick_s: float = math.inf) -> None:
        self.rules, self.ttl_s, self.tick_s = rules, ttl_s, tick_s

    def decide(self, snapshot: Snapshot) -> Decision:
        return Decision(keep_alive_s=np.full(snapshot.idle.shape, self.ttl_s))


@pytest.mark.parametrize("row", CASES, ids=label)
def test_cluster_and_policy_give_the_outcome_bytes_of_replay(row: Row) -> None:
    t = read_trace(row["trace"])
    name, ttl_s = POLICIES[row["policy"]]
    capacity = float(row["capacity_mb"])
    direct = replay.function_cache(
        t.arrival_s, t.function, t.memory_mb, t.warm_s, t.init_s, capacity, policy=name, ttl_s=ttl_s
    )
    cluster = cache_cluster(t.memory_mb, t.warm_s, t.init_s, capacity)
    names = tuple(str(k) for k in range(len(t.ids)))
    workload = Workload(t.arrival_s, t.function, names, float(t.arrival_s[-1]) + 1e5)
    rules = preset("faascache_sim", name)
    ours = simulate(cluster, workload, KeepAlive(rules, ttl_s))[0]
    assert ours.outcome.tier.tobytes() == direct.outcome.tobytes()
    assert ours.clock == direct.clock
    if len(t.arrival_s) < 100 or row["policy"] in ("GD", "TTL"):
        ticking = simulate(cluster, workload, KeepAlive(rules, ttl_s, tick_s=97.0))[0]
        assert ticking.outcome.tier.tobytes() == direct.outcome.tobytes()


@pytest.mark.parametrize("ttl_s", [60.0, 600.0])
@pytest.mark.parametrize("name", ["tiny_4f", "zipf_20f", "size_cost_24f"])
def test_the_eager_preset_too_and_functions_do_not_touch_each_other(
    name: str, ttl_s: float
) -> None:
    t = read_trace(name)
    rules = preset("simfaas", "ttl")
    cluster = cache_cluster(t.memory_mb, t.warm_s, t.init_s, np.inf)
    names = tuple(str(k) for k in range(len(t.ids)))
    workload = Workload(t.arrival_s, t.function, names, float(t.arrival_s[-1]) + 1e5)
    together = simulate(cluster, workload, KeepAlive(rules, ttl_s))[0].outcome.tier
    for f in range(len(names)):
        mine = t.function == f
        alone = replay.function_cache(
            t.arrival_s[mine], np.zeros(mine.sum(), int), t.memory_mb[f : f + 1],
            t.warm_s[f : f + 1], t.init_s[f : f + 1], np.inf, "ttl", "simfaas", ttl_s=ttl_s,
        )  # fmt: skip
        assert together[mine].tobytes() == alone.outcome.tobytes()
