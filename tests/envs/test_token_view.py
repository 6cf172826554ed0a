"""The variant `llm` of Batching: what a budget costs, by hand and against the simulation."""

from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest

from stoker.baselines.base import Policy
from stoker.envs.cluster import replay
from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import FaultRates
from stoker.envs.cluster.llm.calibration import profile
from stoker.envs.cluster.llm.iteration_time import iteration_s
from stoker.envs.cluster.llm_spec import llm_function
from stoker.envs.cluster.observe_tokens import (
    BUDGETS,
    CLUSTER_FEATURES,
    FEATURES,
    SLOT,
    TERMS,
    C,
    K,
)
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Llm, Node
from stoker.envs.levers import TokenBudget
from stoker.envs.token_problems import TokenProblems
from stoker.envs.token_reward import WEIGHTS, episode_costs
from stoker.envs.token_view import TokenVectorEnv
from stoker.envs.workload import Workload

LLAMA = "meta-llama/Meta-Llama-3-8B|a100|tp1"
NAMES = [name for name, _ in FEATURES]
SMALL = TokenProblems(functions=3, seconds=40.0, load=(0.3, 1.2))
PRICES = np.array([WEIGHTS[name] for name in TERMS])


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


def one(arrival_s, prompt, output, until_s=4.0, **changes):
    """One model on one GPU; targets of 1 s and 30 ms."""
    llm = replace(Llm(LLAMA, ttft_s=1.0, tbt_s=0.03), **changes)
    cluster = Cluster(Node((Gpu(80.0),)), (llm_function("chat", llm),))
    n = len(arrival_s)
    workload = Workload(
        np.array(arrival_s, float), np.zeros(n, np.int32), ("chat",), until_s,
        prompt_tokens=np.array(prompt, np.int32), output_tokens=np.array(output, np.int32),
    )  # fmt: skip
    return Fixed(cluster, workload)


def make(problems, rows=1, **arguments):
    return gym.make_vec(
        "stoker/Batching-v0", num_envs=rows, variant="llm", problems=problems, **arguments
    )


class Held(Policy):
    """One budget for all."""

    tick_s = np.inf

    def __init__(self, budget):
        self.budget = budget

    def decide(self, snapshot):
        return Decision(token_budget=np.full(snapshot.idle.shape, self.budget))


@pytest.mark.parametrize("choice", range(len(BUDGETS)))
def test_a_budget_held_by_the_agent_is_a_run_under_that_budget(choice):
    env = make(SMALL, rows=2)
    env.reset(seed=3)
    sim = env.unwrapped.sim
    drawn = list(zip(sim.clusters, sim.state.workloads, strict=True))
    over = np.zeros(2, bool)
    while not over.any():
        *_, over, info = env.step(np.full((2, 3), choice))
    results = simulate(*map(list, zip(*drawn, strict=True)), Held(BUDGETS[choice]))
    for k, ((cluster, workload), result) in enumerate(zip(drawn, results, strict=True)):
        costs = episode_costs(result, cluster, workload).sum(axis=0)
        seen = np.array([info["summary"][k][f"{name}_cost"] for name in TERMS])
        assert seen == pytest.approx(costs, rel=1e-12)
        assert info["summary"][k]["cost"] == pytest.approx(costs @ PRICES)


@pytest.mark.parametrize("warmup_s", [0.0, 9.5])
def test_costs_add_up_to_those_of_the_episode(warmup_s):
    env = make(SMALL, rows=3, warmup_s=warmup_s)
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    total, paid, over = np.zeros((3, len(TERMS))), np.zeros(3), np.zeros(3, bool)
    while not over.any():
        _, rewards, _, over, info = env.step(rng.integers(0, 10, (3, 3)))
        tick = np.stack([info["costs"][name] for name in TERMS], axis=1)
        assert (tick >= 0.0).all()
        assert rewards == pytest.approx(-(tick @ PRICES))
        total += tick
        paid -= rewards
    for k in range(3):
        seen = [info["summary"][k][f"{name}_cost"] for name in TERMS]
        assert total[k] == pytest.approx(seen, rel=1e-9, abs=1e-9)
        assert paid[k] == pytest.approx(info["summary"][k]["cost"], rel=1e-9)
    assert total[:, :3].sum(axis=0).min() > 0.0


def test_rewards_of_the_functions_add_up_to_the_rows():
    turns, whole = make(SMALL, rows=2, view="function"), make(SMALL, rows=2)
    seen, _ = turns.reset(seed=4)
    all_seen, _ = whole.reset(seed=4)
    rng = np.random.default_rng(0)
    expected, first = np.zeros(2), np.zeros(2)
    for tick in range(12):
        joint, own = rng.integers(0, 10, (2, 3)), []
        for f in range(3):
            assert np.array_equal(seen[:, :SLOT], all_seen[:, f * SLOT : (f + 1) * SLOT])
            assert np.array_equal(seen[:, SLOT:], all_seen[:, -C:])
            seen, rewards, _, _, info = turns.step(joint[:, f])
            own.append(rewards)
            assert info["function"].tolist() == [(f + 1) % 3] * 2
        # The first of a tick is told to the step that closes the last one.
        if tick > 0:
            assert first + own[0] + own[1] == pytest.approx(expected)
        first = own[2]
        all_seen, expected, *_ = whole.step(joint)


def test_late_tokens_and_waits_by_hand():
    # One decodes from 0 on; at 1.0 a prompt of 4,000 comes. Whole it stops the other once, for
    # longer than 30 ms; in chunks of 128 never, but takes longer than the second that it may.
    problems = one([0.0, 1.0], [100, 4000], [401, 2], max_tokens=8192)
    known = profile(LLAMA)
    assert iteration_s(known, 127, 1, 300.0) < 0.03 < iteration_s(known, 4000, 0, 0.0)
    costs = {}
    for choice in (0, 9):
        env = make(problems)
        env.reset(seed=0)
        infos = [env.step(np.array([[choice]]))[4] for _ in range(4)]
        costs[choice] = {
            name: np.array([info["costs"][name][0] for info in infos]) for name in TERMS
        }
    assert costs[9]["between"].tolist() == pytest.approx([0.0, 1.0 / 400.0, 0.0, 0.0])
    assert costs[0]["between"].tolist() == [0.0] * 4
    assert costs[9]["first"].tolist() == [0.0] * 4
    # The chunks: 32 with 127 prompt tokens each beside the decode; the prompt itself needs
    # 4,000 / 127 = 31.5 of them.
    run = simulate(problems.cluster, problems.workload, Held(128))[0].outcome
    waited = run.first_token_s[1] - 1.0
    assert (waited > 1.0) == (costs[0]["first"].sum() == 1.0)
    first = iteration_s(known, 100, 0, 0.0)
    assert costs[0]["wait"].sum() == pytest.approx(first + waited)


def test_late_first_tokens_are_charged_when_the_target_passes():
    # A batch of one request at a time: the second waits for the first, some 2 s, and is late at
    # 1.5 + 1 s; the third, which waits at the end, is not late yet.
    problems = one([0.0, 0.5, 3.4], [100] * 3, [330, 2, 2], max_batch=1, tbt_s=1.0)
    env = make(problems)
    env.reset(seed=0)
    infos = [env.step(np.array([[4]]))[4] for _ in range(4)]
    assert [info["costs"]["first"][0] for info in infos] == [0.0, 1.0, 0.0, 0.0]
    wait = [info["costs"]["wait"][0] for info in infos]
    prompt_s = iteration_s(profile(LLAMA), 100, 0, 0.0)
    assert wait[0] == pytest.approx(prompt_s + 0.5)
    assert wait[1] == pytest.approx(1.0)
    assert [info["requests"][0] for info in infos] == [2, 0, 0, 1]


def test_what_is_seen_by_hand():
    # At 1 s one request decodes (context 1,001 and as many as iterations since), and a prompt
    # that has just come waits for its turn.
    problems = one([0.0, 0.999], [1000, 2000], [500, 5])
    env = make(problems)
    env.reset(seed=0)
    seen, *_ = env.step(np.array([[0]]))
    known = profile(LLAMA)
    row = dict(zip(NAMES, seen[0, 1 : 1 + K].tolist(), strict=True))
    assert seen.shape == (1, SLOT + C)
    assert row["decoding"] == pytest.approx(np.log(2.0) / 8.0)
    assert row["waiting"] == pytest.approx(np.log(2.0) / 8.0)
    full_s = iteration_s(known, 2048, 0, 0.0) / 2048
    assert row["backlog"] == pytest.approx(np.log(1.0 + 2000 * full_s) / 4.0)
    assert row["slack"] == pytest.approx(0.999, rel=1e-6)
    assert (row["overdue"], row["late"], row["whole"]) == (0.0, 0.0, 0.0)
    assert row["budget"] == pytest.approx(np.log(128 / 512) / 4.0)
    done = replay.llm_replica([0.0], [1000], [500], token_budget=128, log_iterations=200)
    steps = int((done.log.end_s <= 1.0).sum()) - 8  # 1,000 tokens take eight chunks
    context = 1001 + steps  # of the iteration that runs
    for n in BUDGETS[:-1]:
        expected = iteration_s(known, n - 1, 1, context) / 0.03
        assert row[f"iteration_{n}"] == pytest.approx(expected, rel=1e-3)
    assert row["gap"] == pytest.approx(iteration_s(known, 0, 1, 1040) / 0.03, rel=1e-2)
    assert row["busy"] == pytest.approx(float(done.log.end_s[done.log.end_s <= 1.0][-1]), rel=1e-6)
    assert row["prompts"] == pytest.approx(1000 / (1000 + steps), rel=1e-6)
    assert row["targets"] == pytest.approx(np.log(1.0 / 0.03) / 4.0)
    assert row["prompt"] == pytest.approx(np.log(1500 / 2048) / 4.0)
    held, blocks = -(-context // 16), env.unwrapped.sim.state.lanes.lane[0, 0]["num_blocks"]
    assert row["free"] == pytest.approx(1.0 - held / blocks, rel=1e-7)


def test_every_column_stands_in_the_table():
    doc = TokenVectorEnv.__doc__
    for table in (FEATURES, CLUSTER_FEATURES):
        for k, (name, meaning) in enumerate(table):
            assert f"| {k} | {name} | {meaning} |" in doc
    for name in TERMS:
        assert f"| {name} | {WEIGHTS[name]:g} |" in doc


def test_functions_that_are_no_llms_with_targets_are_refused():
    good = one([0.0], [10], [10])
    wrong = Function("dnn", 1.0, 1.0)
    for function, field in (
        (wrong, r"function\[dnn\].llm"),
        (llm_function("a", Llm(LLAMA, "orca", ttft_s=1.0, tbt_s=1.0)), r"function\[a\].llm"),
        (llm_function("a", Llm(LLAMA, tbt_s=1.0)), r"llm.ttft_s"),
        (llm_function("a", Llm(LLAMA, ttft_s=1.0)), r"llm.tbt_s"),
    ):
        cluster = replace(good.cluster, functions=(function,))
        with pytest.raises(SpecError, match=field):
            make(replace(good, cluster=cluster)).reset(seed=0)
    with pytest.raises(SpecError, match="variant"):
        gym.make("stoker/Batching-v0", variant="bird")


def test_only_llms_that_cut_prompts_have_a_choice():
    functions = (llm_function("a", Llm(LLAMA)), llm_function("b", Llm(LLAMA, "vllm")))
    cluster = Cluster(Node((Gpu(80.0), Gpu(80.0))), (*functions, Function("c", 1.0, 1.0)))
    only = [True] + [False] * 9
    assert TokenBudget().mask(cluster).tolist() == [[True] * 10, only, only]
    assert BUDGETS[TokenBudget.neutral] == 512


def test_lost_nodes_and_late_telemetry_leave_the_costs_whole():
    faults = FaultRates(
        failure_every_s=20.0, repair_s=5.0, telemetry_delay_s=(0.0, 3.0), telemetry_loss=0.3
    )
    env = make(SMALL, rows=4, faults=faults)
    env.reset(seed=0)
    env.action_space.seed(0)
    ended = 0
    while ended < 3:
        seen, rewards, _, over, info = env.step(env.action_space.sample())
        assert np.isfinite(seen).all()
        assert np.isfinite(rewards).all()
        assert all((cost >= 0.0).all() for cost in info["costs"].values())
        ended += over.any()
