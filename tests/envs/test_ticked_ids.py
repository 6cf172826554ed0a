"""Prewarm, Swap and Cluster: what their actions do, by hand; the turns of the function view."""

from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.idle import TERMS
from stoker.envs.cluster.observe_all import SLOT, C
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Objective, Service
from stoker.envs.cluster_reward import BILLED
from stoker.envs.problems import SyntheticProblems
from stoker.envs.spread_problems import SpreadProblems
from stoker.envs.workload import Workload

TURNS = ["stoker/Prewarm-v0", "stoker/Swap-v0", "stoker/Cluster-v0"]
SMALL = SyntheticProblems(functions=3, hours=0.5, requests_per_s=0.05)


@dataclass(frozen=True)
class Fixed:
    """The same problem every episode."""

    cluster: Cluster
    workload: Workload
    gpus: int = 2

    @property
    def functions(self):
        return len(self.cluster.functions)

    def sample(self, rng):
        return self.cluster, self.workload


def two_classes(arrival_s, **changes):
    """A takes 10 s to start and 1 s (dear) or 3 s (cheap) to serve; 4 GiB at 0.01 or 0.002 s."""
    made = Function("a", 4.0, 4.0, runtime_s=10.0, alpha_s=1.0, services=(Service("cheap", 3.0),))
    made = replace(made, **changes)
    dear = Node((Gpu(8.0, 0.01 * 8.0 * 3600.0, "dear"),), host_gib=8.0, disk=Link(1.0))
    cheap = Node((Gpu(8.0, 0.002 * 8.0 * 3600.0, "cheap"),), host_gib=8.0, disk=Link(1.0))
    times = np.array(arrival_s, np.float64)
    workload = Workload(times, np.zeros(len(times), np.int32), ("a",), 240.0)
    return Fixed(Cluster((dear, cheap), (made,), Objective(wait_usd_s=1.0)), workload)


def play(env_id, problems, actions):
    """Step one row through given actions; return waiting and rent, in seconds of waiting."""
    env = gym.make_vec(env_id, num_envs=1, problems=problems, slo_rate=0.0)
    env.reset(seed=0)
    infos = [env.step(np.array([action]))[4] for action in actions]
    return {
        name: -sum(info["reward_terms"][name][0] * info["scale"][0] for info in infos)
        for name in ("wait", "rent")
    }


def test_prewarm_loads_ahead_on_the_class_that_is_named():
    # The start takes 10 s of runtime and 4 s of disk; a request at 130 finds it ready or waits 14.
    problems = two_classes([130.0])
    for action, rate in ((1, 0.04), (4, 0.008)):
        terms = play("stoker/Prewarm-v0", problems, [[0], [action], [action], [0]])
        assert terms["wait"] == 0.0
        assert terms["rent"] == pytest.approx(rate * 120.0)  # from 60 to 180, at once reserved
    terms = play("stoker/Prewarm-v0", problems, [[0]] * 4)
    assert terms["wait"] == pytest.approx(14.0)


def test_two_requests_at_once_need_two_instances():
    problems = two_classes([130.0, 130.0])
    one = play("stoker/Prewarm-v0", problems, [[1]] * 4)
    two = play("stoker/Prewarm-v0", problems, [[2]] * 4)
    # One is not enough: the second request waits for it, and a second instance starts at 130.
    assert (one["wait"], two["wait"]) == pytest.approx((1.0, 0.0))
    assert one["rent"] == pytest.approx(0.04 * (240.0 + 110.0))
    assert two["rent"] == pytest.approx(0.04 * 480.0)


def test_swap_fetches_to_the_host_and_loads_to_the_device():
    problems = two_classes([130.0])
    # From host memory the four seconds of the disk are saved: 10 s of runtime are left.
    waits = [
        play("stoker/Swap-v0", problems, [[0], [a], [then], [0]])["wait"]
        for a, then in ((0, 0), (4, 1), (4, 0), (5, 2))
    ]
    assert waits == pytest.approx([14.0, 10.0, 14.0, 0.0])


def test_swap_leaves_weights_where_it_is_told():
    problems = two_classes([10.0, 130.0])
    # The first start ends at 24. Left on the device: warm at 130. Moved to the host: 10 s.
    kept = play("stoker/Swap-v0", problems, [[2]] * 4)
    hosted = play("stoker/Swap-v0", problems, [[2], [1], [1], [0]])
    gone = play("stoker/Swap-v0", problems, [[2], [0], [0], [0]])
    assert [kept["wait"], hosted["wait"], gone["wait"]] == pytest.approx([14.0, 24.0, 28.0])


def test_cluster_waits_for_half_a_batch():
    # Two requests, 2 s apart, on a warm instance that takes one batch at a time: together or not.
    problems = two_classes([130.0, 132.0], max_batch=4, slo_s=40.0, alpha_s=5.0)
    ready = [2, 1]
    apart = play("stoker/Cluster-v0", problems, [[*ready, 0]] * 4)
    together = play("stoker/Cluster-v0", problems, [[*ready, 1]] * 4)
    assert apart["wait"] == pytest.approx(3.0)  # the second from 132 to the end of the first at 135
    assert together["wait"] == pytest.approx(2.0)  # the first from 130 to 132


@pytest.mark.parametrize("env_id", TURNS)
def test_functions_take_turns_and_their_costs_add_up_to_the_bill(env_id):
    problems = SpreadProblems(SMALL, dear=1, cheap=1, host_share=0.5)
    env = gym.make_vec(env_id, num_envs=2, view="function", problems=problems)
    _, info = env.reset(seed=4)
    env.action_space.seed(4)
    asked, ends = [], 0
    while ends == 0:
        asked.append(int(info["function"][0]))
        *_, over, info = env.step(env.action_space.sample())
        ends = int(over.sum())
    assert asked[:7] == [0, 1, 2, 0, 1, 2, 0]
    shadow = TERMS.index("shadow")
    for k in np.flatnonzero(over):
        own = np.delete(info["final_terms"][k], shadow).sum()
        scored = info["summary"][k]["total_usd"] / SMALL.objective.wait_usd_s
        assert own == pytest.approx(scored, rel=1e-6)


@pytest.mark.parametrize("env_id", TURNS)
def test_a_turn_shows_the_slot_and_the_cluster_and_pays_for_the_last_tick(env_id):
    problems = SpreadProblems(SMALL, dear=1, cheap=1, host_share=0.5)
    turns = gym.make_vec(env_id, num_envs=2, view="function", problems=problems)
    whole = gym.make_vec(env_id, num_envs=2, problems=problems, slo_rate=0.0)
    seen, _ = turns.reset(seed=4)
    all_seen, _ = whole.reset(seed=4)
    choices = turns.unwrapped.core.levers.choices
    rng = np.random.default_rng(0)
    for tick in range(6):
        joint = rng.integers(0, turns.single_action_space.n, (2, 3))
        for f in range(3):
            assert np.array_equal(seen[:, :SLOT], all_seen[:, f * SLOT : (f + 1) * SLOT])
            assert np.array_equal(seen[:, SLOT:], all_seen[:, -C:])
            seen, rewards, _, _, info = turns.step(joint[:, f])
            billed = info["terms"].sum(axis=1)
            if tick > 0 and f < 2:
                expected = -np.minimum(billed / info["scale"], 5.0)
                assert rewards == pytest.approx(expected)
            elif f < 2:
                assert rewards.tolist() == [0.0, 0.0]
        heads = np.stack(np.unravel_index(joint, choices), axis=-1).reshape(2, -1)
        all_seen, _, _, _, told = whole.step(heads)
        spent = turns.unwrapped.core.spent[:, :, : len(TERMS)].sum(axis=1)
        for name in BILLED:
            cost = -told["reward_terms"][name] * told["scale"]
            assert cost == pytest.approx(spent[:, TERMS.index(name)])


def test_spread_problems_hold_every_function_and_say_what_is_wrong():
    cluster, _ = SpreadProblems(SMALL, dear=3, cheap=2, host_share=0.25).sample(
        np.random.default_rng(1)
    )
    largest = max(f.device_gib for f in cluster.functions)
    assert all(g.memory_gib >= largest for g in cluster.gpus)
    assert [g.kind for g in cluster.gpus] == ["dear"] * 3 + ["cheap"] * 2
    assert cluster.nodes[0].host_gib == pytest.approx(0.25 * 3 * cluster.gpus[0].memory_gib)
    for name, value in (("dear", 0), ("cheap", -1), ("slower", 0.0), ("host_share", -1.0)):
        with pytest.raises(SpecError, match=name):
            SpreadProblems(SMALL, **{name: value})
