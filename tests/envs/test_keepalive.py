"""KeepAlive: what its reward, actions and pages say."""

from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import FaultRates
from stoker.envs.cluster.idle import TERMS
from stoker.envs.cluster.observe import FEATURES, SCALARS, K
from stoker.envs.cluster.observe_all import CLUSTER_FEATURES, OWN, SLOT, C
from stoker.envs.cluster.observe_state import STATE
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Objective, Rules
from stoker.envs.cluster_reward import BILLED
from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.function_view import FunctionVectorEnv
from stoker.envs.keepalive import KeepAliveEnv
from stoker.envs.problems import SyntheticProblems
from stoker.envs.workload import Workload

ID = "stoker/KeepAlive-v0"
PAGE = Path(__file__).parents[2] / "docs" / "environments" / "keepalive.md"
DROP, SHORT, KEEP, HOST = 0, 1, 2, 3
INNER = SyntheticProblems(functions=4, hours=0.5, requests_per_s=0.1)
HARSH = [FaultRates(100.0, 20.0, load_sigma=0.3, retry=retry) for retry in (True, False)]


@dataclass(frozen=True)
class Fixed:
    """The same problem every episode."""

    cluster: Cluster
    workload: Workload
    functions: int = 2
    gpus: int = 1

    def sample(self, rng):
        return self.cluster, self.workload


@dataclass(frozen=True)
class Priced:
    """Synthetic problems with prices, a host tier, latency targets and horizons that differ."""

    inner: SyntheticProblems = INNER
    functions: int = 4
    gpus: int = 1

    def sample(self, rng):
        cluster, workload = self.inner.sample(rng)
        gpu = replace(cluster.node.gpus[0], price_usd_h=20.0)
        node = replace(cluster.node, gpus=(gpu,), host_gib=40.0, host_price_usd_gib_h=0.1)
        functions = tuple(replace(f, slo_s=f.alpha_s + 1.0) for f in cluster.functions)
        objective = Objective(wait_usd_s=0.01, load_usd_s=0.0025, drop_usd=0.1)
        made = replace(cluster, nodes=node, functions=functions, objective=objective)
        return made, workload.window(0.0, float(rng.uniform(900.0, 1500.0)))


def two_functions(arrival_s, function, horizon_s=300.0, **node):
    """A has 10 s starts and B 10 s starts; 4 GiB each on 8 GiB; a GiB-second costs 0.01 s."""
    spec = {"weights_gib": 4.0, "device_gib": 4.0, "runtime_s": 10.0, "alpha_s": 1.0}
    functions = (Function("a", **spec, concurrency=8), Function("b", **spec, concurrency=8))
    gpu = Gpu(8.0, price_usd_h=0.01 * 8.0 * 3600.0)
    cluster = Cluster(Node((gpu,), **node), functions, Objective(wait_usd_s=1.0))
    times = np.array(arrival_s, np.float64)
    return Fixed(cluster, Workload(times, np.array(function, np.int32), ("a", "b"), horizon_s))


def play(problems, actions, **options):
    """Step one row through given actions; return the infos."""
    env = ClusterVectorEnv(1, problems, **options)
    env.reset(seed=0)
    return [env.step(np.array([action]))[4] for action in actions]


def test_drop_costs_a_cold_start_and_keep_costs_rent():
    problems = two_functions([1.0, 70.0], [0, 0])
    dropped = play(problems, [(DROP, DROP)] * 2)
    kept = play(problems, [(KEEP, DROP)] * 2)
    waits = [-info["reward_terms"]["wait"][0] * info["scale"][0] for info in dropped]
    assert waits == pytest.approx([10.0, 10.0])
    assert -kept[1]["reward_terms"]["wait"][0] == pytest.approx(0.0)
    rents = [-info["reward_terms"]["rent"][0] * info["scale"][0] for info in kept]
    assert rents == pytest.approx([59.0 * 4.0 * 0.01, 60.0 * 4.0 * 0.01])
    busy = -dropped[0]["reward_terms"]["rent"][0] * dropped[0]["scale"][0]
    assert busy == pytest.approx(11.0 * 4.0 * 0.01)


def test_short_keeps_for_fifteen_seconds():
    problems = two_functions([1.0], [0])
    info = play(problems, [(SHORT, DROP)])[0]
    assert info["cost_memory"][0] * 8.0 * 60.0 == pytest.approx((11.0 + 15.0) * 4.0)


def test_ticks_shrink_with_compressed_time():
    problems = two_functions([0.1], [0])
    fast = replace(problems, cluster=replace(problems.cluster, first_bin_s=0.3))
    info = play(fast, [(SHORT, DROP)] * 3)
    assert info[0]["dt"][0] == pytest.approx(6.0)
    assert info[2]["cost_memory"][0] * 8.0 * 6.0 == pytest.approx((12.6 - 12.0) * 4.0)


def test_weights_wait_in_host_memory_only_until_the_agent_says_otherwise():
    problems = two_functions([1.0, 130.0], [0, 0], host_gib=4.0, disk=Link(gib_s=1.0))
    env = ClusterVectorEnv(1, problems)
    env.reset(seed=0)
    env.step([[DROP + HOST, DROP]])
    assert env.sim.snapshot().on_host[0, 0] == 1
    env.step([[DROP + HOST, DROP]])
    assert env.sim.snapshot().on_host[0, 0] == 1
    env.step([[DROP, DROP]])
    assert env.sim.snapshot().on_host[0, 0] == 0
    assert env.step([[DROP, DROP]])[4]["clipped"][0] == 0


def test_masks_follow_slots_and_host_memory():
    problems = two_functions([1.0], [0])
    env = ClusterVectorEnv(1, problems, max_functions=3)
    env.reset(seed=0)
    masks = env.action_masks().reshape(3, 6)
    assert masks.astype(int).tolist() == [[1, 1, 1, 0, 0, 0]] * 2 + [[1, 0, 0, 0, 0, 0]]
    info = env.step([[KEEP + HOST, SHORT, KEEP]])[4]
    assert info["clipped"][0] == 2
    assert env.legalise([[KEEP + HOST, SHORT, KEEP]]).tolist() == [[KEEP, SHORT, DROP]]


def test_orders_past_the_horizon_are_charged_up_to_a_cold_start():
    problems = two_functions([1.0], [0], horizon_s=70.0)
    ends = play(problems, [(KEEP, DROP)] * 2)[1]
    assert ends["dt"][0] == pytest.approx(10.0)
    tail = -ends["reward_terms"]["tail"][0] * ends["scale"][0]
    assert tail == pytest.approx(50.0 * 4.0 * 0.01)
    dear = replace(problems.cluster, nodes=Node((Gpu(8.0, price_usd_h=8.0 * 3600.0),)))
    ends = play(replace(problems, cluster=dear), [(KEEP, DROP)] * 2)[1]
    assert -ends["reward_terms"]["tail"][0] * ends["scale"][0] == pytest.approx(10.0)


def test_requests_that_wait_at_the_horizon_are_charged():
    problems = two_functions([55.0], [0], horizon_s=60.0)
    info = play(problems, [(KEEP, KEEP)])[0]
    assert -info["reward_terms"]["wait"][0] * info["scale"][0] == pytest.approx(5.0)
    assert info["late"][0] == 1.0


@pytest.mark.parametrize("faults", [None, *HARSH])
@pytest.mark.parametrize("rows", [1, 3])
def test_cluster_rewards_without_slo_and_tail_add_up_to_the_bill(rows, faults):
    env = ClusterVectorEnv(rows, Priced(), faults=faults)
    env.reset(seed=1)
    env.action_space.seed(1)
    usd = np.zeros(rows)
    ended = 0
    for _ in range(60):
        *_, over, info = env.step(env.action_space.sample())
        paid = sum(-info["reward_terms"][name] for name in BILLED)
        usd += paid * info["scale"] * 0.01
        for k in np.flatnonzero(over):
            assert usd[k] == pytest.approx(info["summary"][k]["total_usd"], rel=1e-9)
            assert info["final_info"]["summary"]["total_usd"][k] == info["summary"][k]["total_usd"]
            usd[k] = 0.0
            ended += 1
    assert ended >= rows


@pytest.mark.parametrize("view", [ClusterVectorEnv, FunctionVectorEnv])
def test_faults_are_drawn_anew_every_episode_whatever_the_rows(view):
    rates = FaultRates(failure_every_s=200.0)
    one, three = (view(rows, Priced(), faults=rates) for rows in (1, 3))
    for env in (one, three):
        env.reset(seed=3)
    first = one.sim.state.faults[0]
    assert first.losses and first == three.sim.state.faults[0] != three.sim.state.faults[1]
    one.reset()
    assert one.sim.state.faults[0] != first


def test_the_function_view_is_never_late():
    with pytest.raises(SpecError, match="telemetry"):
        FunctionVectorEnv(1, Priced(), faults=FaultRates(telemetry_loss=0.1))


@pytest.mark.parametrize("faults", [None, *HARSH])
def test_function_rewards_without_the_shadow_add_up_to_the_bill(faults):
    env = gym.make_vec(ID, num_envs=2, view="function", problems=Priced(), faults=faults)
    env.reset(seed=1)
    env.action_space.seed(1)
    ended = 0
    for _ in range(600):
        *_, over, info = env.step(env.action_space.sample())
        for k in np.flatnonzero(over):
            terms = dict(zip(TERMS, info["final_terms"][k], strict=True))
            usd = sum(terms[name] for name in BILLED) * 0.01
            assert usd == pytest.approx(info["summary"][k]["total_usd"], rel=1e-9)
            ended += 1
    assert ended


def test_the_slo_multiplier_grows_while_the_target_is_missed():
    env = ClusterVectorEnv(2, Priced(), slo_target=(0.95, 0.95), slo_rate=2.0)
    env.reset(seed=0)
    infos = [env.step(np.zeros((2, 4), np.int64))[4] for _ in range(12)]
    assert infos[-1]["slo_multiplier"].min() > 0.0
    last = infos[-1]
    excess = last["late"] - 0.05 * last["requests"]
    assert last["cost_slo"] == pytest.approx(excess)
    assert last["reward_terms"]["slo"] == pytest.approx(-last["slo_multiplier"] * excess)


def test_weights_scale_their_terms():
    problems = two_functions([1.0, 70.0], [0, 0])
    plain = play(problems, [(DROP, DROP)])[0]["reward_terms"]
    heavy = play(problems, [(DROP, DROP)], weights={"rent": 3.0})[0]["reward_terms"]
    assert heavy["rent"][0] == pytest.approx(3.0 * plain["rent"][0])
    assert heavy["wait"][0] == plain["wait"][0]


def test_rows_of_a_group_share_every_trace():
    env = ClusterVectorEnv(4, same_trace_groups=2)
    seen, _ = env.reset(seed=0)
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])


def test_a_warm_up_is_left_out_of_rewards():
    problems = two_functions([1.0, 70.0], [0, 0])
    env = ClusterVectorEnv(1, problems, warmup_s=60.0)
    env.reset(seed=0)
    rewards = [env.step([[KEEP, DROP]])[4]["reward_terms"]["wait"][0] for _ in range(4)]
    assert rewards == [0.0] * 4


def test_padding_changes_nothing_for_the_functions():
    tight, wide = ClusterVectorEnv(1, Priced()), ClusterVectorEnv(1, Priced(), max_functions=7)
    tight.reset(seed=2)
    wide.reset(seed=2)
    tight.action_space.seed(2)
    for _ in range(10):
        action = tight.action_space.sample()
        left = tight.step(action)
        right = wide.step(np.pad(action, ((0, 0), (0, 3))))
        assert left[1] == right[1]
        n = 4 * SLOT
        assert np.array_equal(left[0][0, :n], right[0][0, :n])
        assert np.array_equal(left[0][0, -C:], right[0][0, -C:])
        assert not right[0][0, n:-C].any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tick_s", 0.0),
        ("tick_s", float("nan")),
        ("max_functions", 3),
        ("slo_target", (0.9, 1.1)),
        ("slo_rate", -1.0),
        ("warmup_s", -1.0),
        ("same_trace_groups", 0),
        ("rules", Rules(plan="hazard")),
    ],
)
def test_bad_arguments_of_the_cluster_view_are_named(name, value):
    with pytest.raises(SpecError, match=name):
        KeepAliveEnv(problems=Priced(), **{name: value})


def test_an_empty_workload_is_refused():
    problems = two_functions([], [])
    with pytest.raises(SpecError, match="workload"):
        ClusterVectorEnv(1, problems).reset(seed=0)


@pytest.mark.parametrize("text", [KeepAliveEnv.__doc__, PAGE.read_text(encoding="utf-8")])
def test_the_pages_list_every_feature(text):
    for k, (name, meaning) in enumerate(SCALARS):
        assert f"| {k} | {name} | {meaning} |" in text
    assert f"| {len(SCALARS)}-{len(SCALARS) + 23} | slow_0 .. slow_23 |" in text
    assert f"| {K - 24}-{K - 1} | fast_0 .. fast_23 |" in text
    assert len(FEATURES) == len(SCALARS) + 48
    for k, (name, meaning) in enumerate(STATE):
        assert f"| {K + k} | {name} | {meaning} |" in text
    assert 1 + K + len(STATE) == SLOT
    assert f"{SLOT - 1}) columns" in text or f"S x {SLOT} + {C} columns" in text
    for k, (name, meaning) in enumerate(CLUSTER_FEATURES):
        assert f"| {k} | {name} | {meaning} |" in text
    assert all(name in text for name, _ in OWN)
