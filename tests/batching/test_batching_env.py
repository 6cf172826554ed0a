"""Batching: what its reward, actions and pages say, by hand."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from one_model import Fixed, model

from stoker.envs.batch_problems import BatchProblems
from stoker.envs.batching import BatchingClusterRows, BatchingEnv, BatchingFunctionRows
from stoker.envs.batching_core import WEIGHTS, BatchingRows
from stoker.envs.cluster.batching import DROP, RUN, TERMS, WAIT
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.observe_batch import FEATURES, K

PAGE = Path(__file__).parents[2] / "docs" / "environments" / "batching.md"
INF = float("inf")
RUN_1, RUN_2, RUN_4 = RUN, RUN + 1, RUN + 2
NAMES = [name for name, _ in FEATURES]


def play(problem, actions, view=BatchingFunctionRows, **options):
    """Step one row through given actions; return the environment and the infos."""
    env = view(1, problem, **{"sizes": (1, 2, 4), "wait_share": INF, **options})
    env.reset(seed=0)
    return env, [env.step(np.array([action]))[4] for action in actions]


def costs(infos, name):
    return [float(info["costs"][name][0]) for info in infos]


def test_costs_of_waiting_and_of_a_batch_are_in_latency_targets():
    # p(3) = 2.5, target 4: all three end at 3.5, in time
    _, infos = play(Fixed((0.0, 0.5, 1.0)), [WAIT, WAIT, RUN_4])
    assert costs(infos, "wait") == pytest.approx([0.5 / 4.0, 2 * 0.5 / 4.0, 0.0])
    assert costs(infos, "busy") == pytest.approx([0.0, 0.0, 2.5 / 4.0])
    assert costs(infos, "late") == costs(infos, "drop") == [0.0] * 3
    assert [info["dt"][0] for info in infos] == pytest.approx([0.5, 0.5, 999.0])
    assert [info["served"][0] for info in infos] == [0, 0, 3]
    assert sum(info["requests"][0] for info in infos) == 3
    assert infos[-1]["summary"][0]["slo_attainment"] == 1.0


def test_a_request_is_late_as_soon_as_its_deadline_passes_and_only_once():
    for last in (DROP, RUN_1):
        _, infos = play(Fixed((0.0,)), [WAIT, WAIT, WAIT, last], wait_share=0.5)
        assert [info["dt"][0] for info in infos[:3]] == pytest.approx([2.0, 2.0, 2.0])
        assert costs(infos, "late") == [0.0, 0.0, 1.0, 0.0]
        assert costs(infos, "drop") == [0.0] * 4


def test_a_request_that_ends_late_is_charged_then_and_one_refused_in_time_at_once():
    tight = (model(slo_s=1.2),)
    _, infos = play(Fixed((0.0, 5.0), models=tight), [RUN_1, DROP])
    assert costs(infos, "late") == [1.0, 0.0]
    assert costs(infos, "drop") == [0.0, 1.0]


def test_what_is_unfinished_at_the_horizon_is_charged_if_it_is_late_already():
    tight = (model(slo_s=1.2),)
    _, infos = play(Fixed((0.0,), models=tight, horizon_s=1.3), [RUN_1])
    assert costs(infos, "late") == [1.0]
    _, infos = play(Fixed((0.0,), models=tight, horizon_s=1.1), [RUN_1])
    assert costs(infos, "late") == [0.0]
    _, infos = play(Fixed((0.0,), horizon_s=5.0), [WAIT])
    assert costs(infos, "late") == [1.0]
    _, infos = play(Fixed((0.0,), horizon_s=3.0), [WAIT])
    assert costs(infos, "late") == [0.0]
    assert costs(infos, "wait") == pytest.approx([3.0 / 4.0])


def test_the_reward_is_minus_the_weighted_costs():
    weights = {"wait": 2.0, "drop": 3.0}
    _, infos = play(Fixed((0.0, 0.5)), [WAIT, DROP], weights=weights)
    signed = [info["reward_terms"] for info in infos]
    assert signed[0]["wait"][0] == pytest.approx(-2.0 * 0.125)
    assert signed[1]["drop"][0] == -3.0
    assert set(WEIGHTS) == set(TERMS)


def test_waiting_ends_at_the_timer_or_the_next_arrival_whichever_is_first():
    _, infos = play(Fixed((0.0, 1.0)), [WAIT] * 4, wait_share=0.15)
    assert [info["dt"][0] for info in infos] == pytest.approx([0.6, 0.4, 0.6, 0.6])


def test_a_size_is_legal_unless_a_smaller_one_takes_all():
    env, _ = play(Fixed((0.0, 0.1, 0.2, 0.3, 0.4, 0.5)), [])
    legal = [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    for row in legal:
        assert env.action_masks()[0].astype(int).tolist() == row
        assert env.legalise([RUN_4])[0] == RUN + sum(row[2:]) - 1
        info = env.step([WAIT])[4]
    assert info["clipped"][0] == 0
    env.step([RUN_2])  # at 0.4, of five; until 2.4
    assert env.due.queued[0] == 4
    env.step([RUN_4])
    env, infos = play(Fixed((0.0,)), [RUN_4])
    assert infos[0]["clipped"][0] == 1
    assert costs(infos, "busy") == pytest.approx([1.5 / 4.0])


def test_a_batch_is_no_larger_than_the_functions_own_limit():
    env, infos = play(Fixed((0.0,) * 6, models=(model(max_batch=3),)), [WAIT] * 5 + [RUN_4])
    assert costs(infos, "busy")[-1] == pytest.approx(2.5 / 4.0)
    assert env.due.queued[0] == 3


TWO = (model("a"), model("b", slo_s=2.0))


def test_when_a_gpu_becomes_free_the_function_that_is_due_first_is_asked_first():
    # a runs until 1.5; then a waits since 0.2 (due 4.2), b since 1.0 (due 3.0)
    problem = Fixed((0.0, 0.2, 1.0), (0, 0, 1), TWO)
    env, infos = play(problem, [RUN_1])
    assert infos[0]["dt"][0] == pytest.approx(1.5)
    assert infos[0]["function"][0] == 1
    info = env.step([WAIT])[4]
    assert (info["function"][0], info["dt"][0]) == (0, 0.0)
    info = env.step([RUN_1])[4]  # b must wait for its end
    assert (info["function"][0], info["dt"][0]) == (1, 1.5)


def test_functions_that_want_one_gpu_get_it_in_order_of_deadline():
    problem = Fixed((0.0, 0.2, 1.0), (0, 0, 1), TWO)
    env, _ = play(problem, [(RUN_1, WAIT)], BatchingClusterRows)
    assert env.action_masks()[0].reshape(2, 5)[:, RUN_1].tolist() == [True, True]
    info = env.step([[RUN_1, RUN_1]])[4]
    assert (info["void"][0], info["clipped"][0], info["dt"][0]) == (1, 0, 1.5)
    assert env.due.function[0] == 0  # b has run, a is asked again
    assert env.action_masks()[0].reshape(2, 5)[:, RUN_1].tolist() == [True, False]


def test_instances_on_gpus_of_their_own_do_not_wait_for_each_other():
    problem = Fixed((0.0, 0.0), (0, 1), TWO, sharing="parallel")
    _, infos = play(problem, [RUN_1, RUN_1])
    assert [info["dt"][0] for info in infos] == pytest.approx([0.0, 1000.0])
    assert infos[-1]["served"][0] == 2


@pytest.mark.parametrize("functions", [1, 3])
def test_each_request_is_late_or_refused_at_most_once(functions):
    env = BatchingFunctionRows(8, BatchProblems(functions=functions, requests=60))
    env.reset(seed=4)
    env.action_space.seed(4)
    missed, ended = np.zeros(8), 0
    while ended < 8:
        *_, over, info = env.step(env.action_space.sample())
        assert all((cost >= 0.0).all() for cost in info["costs"].values())
        missed += info["costs"]["late"] + info["costs"]["drop"]
        for k in np.flatnonzero(over):
            figures = info["summary"][k]
            # at the horizon those that still wait count as late there, and run ones as in time
            assert missed[k] <= figures["requests"]
            assert missed[k] >= figures["drops"]
            missed[k], ended = 0.0, ended + 1


def test_misses_are_those_of_the_summary_where_everything_ends():
    rng = np.random.default_rng(0)
    problem = Fixed(tuple(np.sort(rng.uniform(0.0, 60.0, 80))), horizon_s=2000.0)
    env = BatchingFunctionRows(4, problem, sizes=(1, 2, 4))
    env.reset(seed=0)
    env.action_space.seed(1)
    missed, over = np.zeros(4), np.zeros(4, bool)
    while not over.any():
        *_, over, info = env.step(env.action_space.sample())
        missed += info["costs"]["late"] + info["costs"]["drop"]
        for k in np.flatnonzero(over):
            late = 80 * (1.0 - info["summary"][k]["slo_attainment"])
            assert missed[k] == pytest.approx(late, abs=1e-9)


def test_both_views_pay_the_same_for_one_function():
    one = BatchingFunctionRows(2, BatchProblems(requests=40))
    all_ = BatchingClusterRows(2, BatchProblems(requests=40))
    one.reset(seed=2)
    all_.reset(seed=2)
    one.action_space.seed(2)
    for _ in range(60):
        action = one.action_space.sample()
        left, right = one.step(action), all_.step(action[:, None])
        assert np.array_equal(left[1], right[1])
        assert np.array_equal(left[0], right[0][:, 1:])


def test_features_are_what_they_are_called():
    # a = 1, b = 1/2, target 4; at 3.2 three wait, of which the first (due 4.0) is hopeless
    env, _ = play(Fixed((0.0, 0.4, 3.2)), [WAIT])
    seen = dict(zip(NAMES, env.step([WAIT])[0][0], strict=True))
    seen_before = 1.0 + np.exp(-2.8 / 60.0) + np.exp(-3.2 / 60.0)
    expected = {
        "due": 1.0, "queued": np.log(4.0) / 4.0, "queue_share": 0.75, "slack_1": 0.2,
        "slack_2": 0.3, "slack_4": 1.0, "hopeless": np.log(3.0) / 4.0, "service_one": 1.5 / 4.0,
        "service_all": 2.5 / 4.0, "service_most": 3.0 / 4.0, "target": np.log(4.0 / 1.5) / 4.0,
        "largest": np.log(4.0) / 4.0, "since": 0.0, "running": 0.0, "others": 0.0, "gpus_busy": 0.0,
        "rate_60s": np.log(1.0 + 3.0 * seen_before / 60.0) / 4.0,
    }  # fmt: skip
    assert {name: seen[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_a_warm_up_runs_what_waits_and_costs_nothing():
    env = BatchingFunctionRows(1, Fixed((0.0, 0.1, 20.0)), warmup_s=10.0, wait_share=INF)
    env.reset(seed=0)
    assert env.due.now_s[0] == 20.0
    info = env.step([RUN_1])[4]
    assert [float(info["costs"][name][0]) for name in TERMS] == [0.0, 0.0, 0.0, 1.5 / 4.0]


def test_padded_slots_are_empty_and_only_wait():
    env = BatchingClusterRows(1, Fixed((0.0,)), max_functions=3, sizes=(1, 2))
    seen, info = env.reset(seed=0)
    assert not seen[0, 1 + K :].any()
    assert info["action_mask"].reshape(3, 4)[1:].astype(int).tolist() == [[1, 0, 0, 0]] * 2
    assert env.step([[RUN_1, RUN_1, DROP]])[4]["clipped"][0] == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sizes", ()), ("sizes", (2, 1)), ("sizes", (0, 1)), ("wait_share", 0.0),
        ("warmup_s", -1.0), ("max_functions", 0), ("weights", {"hope": 1.0}),
        ("same_trace_groups", 0),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(name, value):
    with pytest.raises(SpecError, match=name):
        BatchingEnv(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("load", (0.0, 1.0)), ("cv", (2.0, 1.0)), ("requests", 0), ("models", ())]
)
def test_bad_problems_are_named(name, value):
    with pytest.raises(SpecError, match=f"problems.{name}"):
        BatchProblems(**{name: value})


def test_a_function_without_a_target_is_refused():
    with pytest.raises(SpecError, match="slo_s"):
        BatchingFunctionRows(1, Fixed((0.0,), models=(model(slo_s=INF),))).reset(seed=0)


@pytest.mark.parametrize("text", [BatchingEnv.__doc__, PAGE.read_text(encoding="utf-8")])
def test_the_pages_list_every_feature_action_and_cost(text):
    for k, (name, meaning) in enumerate(FEATURES):
        assert f"| {k} | {name} | {meaning} |" in text
    for action in (f"| {WAIT} | wait ", f"| {DROP} | drop ", f"| {RUN} + j | run "):
        assert action in text
    for name, weight in WEIGHTS.items():
        assert f"| {name} | {weight:g} |" in text
    for name in BatchingRows.__init__.__kwdefaults__:
        assert name in text
    sizes = BatchingRows.__init__.__kwdefaults__["sizes"]
    assert ", ".join(map(str, sizes)) in text


def test_the_default_environment_is_the_cluster_view():
    env = gym.make("stoker/Batching-v0")
    assert isinstance(env.action_space, gym.spaces.MultiDiscrete)


def test_the_board_and_the_picture_show_the_row():
    problem = Fixed((0.0, 0.5))
    env = BatchingEnv(view="function", render_mode="ansi", problems=problem, wait_share=INF)
    env.reset(seed=0)
    env.step(WAIT)
    assert "waiting 2" in env.render()
    env = BatchingEnv(view="function", render_mode="rgb_array", problems=problem)
    env.reset(seed=0)
    assert env.render().dtype == np.uint8
