"""The cache preset against faascache-sim (aFuerst/faascache-sim @ 25110b6) on the oracle traces."""

from dataclasses import replace

import numpy as np
import pytest
from oracle_cases import POLICIES, Row, Trace, band, label, letters, needs_oracles, outcomes, rows
from oracle_cases import trace as read_trace

from stoker.envs.cluster import replay
from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.presets import preset
from stoker.envs.cluster.replay import CacheReplay, cache_cluster
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import GIB, Rules
from stoker.envs.workload.workload import Workload

pytestmark = needs_oracles
CASES = [r for r in rows("faascache_sim_results.csv") if r["policy"] in POLICIES]
CLONES = [r for r in rows("faascache_sim_variant_clonechoice.csv") if r["policy"] in POLICIES]
MIN_FREE = rows("faascache_sim_variant_minfree.csv")
DIFFER_AT_A_TIE = {"size_cost_24f-LRU-6000", "size_cost_24f-LRU-9000"}
CLOCK_DIFFERS_BY_A_CLONE = {"zipf_20f-FREQ-1500": 1e-3, "size_cost_24f-GD-2500": 1e-3}
"""Same outcomes, but of clones with unequal counts another one went: the public choice follows
heap layout, and the count that goes with a clone moves the clock a little."""
STATE = "pool_after(function:priority:freq)"
STEPPED = rows("tiny_4f_steps.csv")


def run(row: Row) -> CacheReplay:
    t = read_trace(row["trace"])
    name, ttl_s = POLICIES[row["policy"]]
    return replay.function_cache(
        t.arrival_s, t.function, t.memory_mb, t.warm_s, t.init_s, float(row["capacity_mb"]),
        policy=name, ttl_s=ttl_s,
    )  # fmt: skip


def start(t: Trace, capacity_mb: float, rules: Rules, ttl_s: float) -> Simulation:
    names = tuple(str(k) for k in range(len(t.ids)))
    workload = Workload(t.arrival_s, t.function, names, float(t.arrival_s[-1]) + 1e5)
    cluster = cache_cluster(t.memory_mb, t.warm_s, t.init_s, capacity_mb)
    sim = Simulation([cluster], [workload], rules, track=False)
    sim.apply(Decision(keep_alive_s=np.full((1, len(names)), ttl_s)))
    return sim


def seen(row: Row, kind: str) -> list[float]:
    """Values that the public simulator takes: tie-breaking re-runs and both clone choices."""
    ties = [float(row[f"{kind}_tie_min"]), float(row[f"{kind}_tie_max"])]
    return ties + [float(r[kind]) for r in CLONES if label(r) == label(row)]


def assert_counts_within(outcome: np.ndarray, row: Row) -> None:
    for code, kind in ((1, "cold_starts"), (2, "drops")):
        low, high = band(seen(row, kind), len(outcome))
        assert low <= np.count_nonzero(outcome == code) <= high, kind


def same_outcomes(row: Row, outcome: np.ndarray) -> bool:
    return letters(outcome) == outcomes(row["trace"])[row["policy"]][row["capacity_mb"]]


def test_the_oracle_cases_are_all_here() -> None:
    assert len(CASES) == 120
    assert len(CLONES) == 240
    assert len(MIN_FREE) == 40


@pytest.mark.parametrize("row", CASES, ids=label)
def test_cold_starts_and_drops_are_those_of_faascache_sim(row: Row) -> None:
    result = run(row)
    assert_counts_within(result.outcome, row)
    if row["policy"] == "LRU" and label(row) not in DIFFER_AT_A_TIE:
        assert letters(result.outcome) == outcomes(row["trace"])["LRU"][row["capacity_mb"]]
        assert result.evictions == int(row["evictions"])
    if row["policy"] in ("GD", "FREQ", "SIZE") and same_outcomes(row, result.outcome):
        loose = CLOCK_DIFFERS_BY_A_CLONE.get(label(row), 0.0)
        clock = pytest.approx(float(row["final_clock"]), rel=loose, abs=1e-6)
        assert result.clock == clock
        assert result.evictions == int(row["evictions"])


def test_most_cases_agree_request_by_request() -> None:
    alike = [same_outcomes(row, run(row).outcome) for row in CASES]
    assert sum(alike) >= 79  # of 120; the others part at ties and clone choices of a heap's layout


@pytest.mark.parametrize("row", CLONES, ids=lambda r: f"{label(r)}-{r['clone_choice']}")
def test_either_clone_choice_is_within_the_band(row: Row) -> None:
    name, ttl_s = POLICIES[row["policy"]]
    rules = replace(preset("faascache_sim", name), clone_choice=row["clone_choice"])
    sim = start(read_trace(row["trace"]), float(row["capacity_mb"]), rules, ttl_s)
    sim.run()
    case = next(r for r in CASES if label(r) == label(row))
    assert_counts_within(sim.result().outcome.tier, case)


@pytest.mark.parametrize("row", MIN_FREE, ids=label)
def test_freeing_the_shortfall_alone_is_the_min_free_variant(row: Row) -> None:
    name, ttl_s = POLICIES[row["policy"]]
    rules = replace(preset("faascache_sim", name), eviction_need="shortfall")
    sim = start(read_trace(row["trace"]), float(row["capacity_mb"]), rules, ttl_s)
    sim.run()
    tier = sim.result().outcome.tier
    case = next(r for r in CASES if label(r) == label(row))
    for code, kind in ((1, "cold_starts"), (2, "drops")):
        spread = max(seen(case, kind)) - min(seen(case, kind))  # what ties and clones do to it
        low, high = band([float(row[kind]) - spread / 2, float(row[kind]) + spread / 2], len(tier))
        assert low <= np.count_nonzero(tier == code) <= high, kind


def pool(step: Row) -> list[tuple[str, float, int]]:
    """Function, priority and frequency of every container after a step."""
    entries = [e.split(":") for e in step[STATE].split()]
    return sorted((f, float(priority), int(freq)) for f, priority, freq in entries)


def clones_differ(step: Row) -> bool:
    """Whether which clone goes next matters for later counts."""
    counts: dict[str, set[int]] = {}
    for f, _, freq in pool(step):
        counts.setdefault(f, set()).add(freq)
    return any(len(c) > 1 for c in counts.values())


def tiny_cases() -> list[tuple[str, str]]:
    return sorted({(r["policy"], r["capacity_mb"]) for r in STEPPED})


@pytest.mark.parametrize(("policy", "capacity"), tiny_cases())
def test_every_step_of_the_tiny_trace_leaves_the_same_state(policy: str, capacity: str) -> None:
    t = read_trace("tiny_4f")
    name, ttl_s = POLICIES[policy]
    sim = start(t, float(capacity), preset("faascache_sim", name), ttl_s)
    steps = [r for r in STEPPED if (r["policy"], r["capacity_mb"]) == (policy, capacity)]
    assert len(steps) == len(t.arrival_s) == 40
    counts_agree = policy in ("GD", "FREQ", "SIZE")
    for k, step in enumerate(steps):
        sim.run(float(np.nextafter(t.arrival_s[k], np.inf)))
        inst, tier = sim.state.inst[0], sim.state.req[0]["tier"][k]
        here = sorted(t.ids[int(f)] for f in inst["fn"][inst["state"] != 0])
        assert here == [f for f, _, _ in pool(step)]
        used = round(float(step["mem_used_after_mb"]) / 1024.0 * GIB)
        assert sim.state.gpu[0, 0]["used"] == used
        assert ((tier == 2), (tier == 0)) == (step["outcome"] == "D", step["outcome"] == "H")
        if counts_agree:
            clock = pytest.approx(float(step["clock_after"]), abs=1e-6)
            assert sim.state.rows[0]["clock"] == clock
            for f, priority, _ in pool(step):
                ours = sim.state.fn[0]["prio"][t.ids.index(f)]
                assert ours == pytest.approx(priority, rel=1e-5, abs=1e-4)
        counts_agree = counts_agree and not clones_differ(step)
