"""Replicas that are lost and repaired, by hand, and nothing lost but them.  Units: seconds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_replicas import replicas
from test_fleet import ROUTERS, split
from test_fleet_startup import GIB, A, alone_s

from stoker.envs.cluster import replay
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.replay import ReplicaLoss


def test_a_request_goes_on_elsewhere_with_what_it_has_put_out() -> None:
    steps = alone_s(A, 100, 50)
    ends = np.cumsum(steps)
    fn = replay.LlmFunction(replicas=2)
    found = replay.llm_fleet([0.0], [100], [50], fn, losses=[ReplicaLoss(0.2, 0)])
    out = int((ends <= 0.2).sum())
    assert 5 < out < 45
    again = alone_s(A, 100 + out, 50 - out)
    assert found.replica.tolist() == [1] and found.restarts.tolist() == [1]
    assert found.first_token_s[0] == pytest.approx(ends[0], rel=1e-12)
    assert found.completed_s[0] == pytest.approx(0.2 + sum(again), rel=1e-12)
    assert found.max_tbt_s[0] == pytest.approx(0.2 - ends[out - 1] + again[0], rel=1e-12)
    assert found.gpu_busy_s == pytest.approx([0.2, sum(again)], rel=1e-12)
    assert found.gpu_up_s[0] == pytest.approx(0.2, rel=1e-12)
    assert found.failed.tolist() == [False]


def test_an_iteration_that_ends_when_its_replica_is_lost_counts() -> None:
    ends = np.cumsum(alone_s(A, 100, 50))
    at = float(ends[0])
    fn = replay.LlmFunction(replicas=2)
    found = replay.llm_fleet([0.0], [100], [50], fn, losses=[ReplicaLoss(at, 0)])
    assert found.first_token_s[0] == pytest.approx(at, rel=1e-12)
    assert found.completed_s[0] == pytest.approx(at + sum(alone_s(A, 101, 49)), rel=1e-12)


def test_a_prompt_under_way_begins_again() -> None:
    fn = replay.LlmFunction(replicas=2)
    found = replay.llm_fleet([0.0], [100], [50], fn, losses=[ReplicaLoss(0.001, 0)])
    assert found.first_scheduled_s.tolist() == [0.0]
    whole = 0.001 + sum(alone_s(A, 100, 50))
    assert found.completed_s[0] == pytest.approx(whole, rel=1e-12)
    assert found.restarts.tolist() == [1]


def test_requests_fail_while_all_are_lost_and_a_repaired_replica_loads() -> None:
    fn = replay.LlmFunction(load_s=2.0)
    arrival_s = [0.0, 0.5, 2.0, 5.0]
    found = replay.llm_fleet(
        arrival_s, [100] * 4, [50] * 4, fn, losses=[ReplicaLoss(0.2, 0, away_s=1.0)]
    )
    assert found.failed.tolist() == [True, True, False, False]
    assert found.rejected.tolist() == [False] * 4
    assert found.replica.tolist() == [-1, -1, 0, 0]
    assert np.isfinite(found.first_token_s).tolist() == [True, False, True, True]
    assert np.isnan(found.completed_s).tolist() == [True, True, False, False]
    lasts = sum(alone_s(A, 100, 50))
    assert found.completed_s[2:] == pytest.approx([3.2 + lasts, 5.0 + lasts], rel=1e-12)
    assert found.cold.tolist() == [False, False, True, False]
    assert found.cold_starts.tolist() == [1] and found.gpu_loading_s.tolist() == [2.0]
    assert found.gpu_up_s[0] == pytest.approx(0.2 + 5.0 + lasts - 1.2, rel=1e-12)


def test_one_that_comes_on_arrival_is_not_started_while_it_is_lost() -> None:
    fn = replay.LlmFunction(replicas=2, start="on_arrival", load_s=1.0, keep_alive_s=0.5)
    found = replay.llm_fleet(
        [1.0, 5.0, 9.0], [100] * 3, [2] * 3, fn, losses=[ReplicaLoss(0.5, 0, away_s=6.0)]
    )
    assert found.replica.tolist() == [1, 1, 0]
    assert found.cold_starts.tolist() == [1, 2]
    assert not found.failed.any()


def test_a_load_that_is_lost_begins_again_elsewhere() -> None:
    fn = replay.LlmFunction(replicas=2, start="on_arrival", load_s=1.0)
    found = replay.llm_fleet([1.0], [100], [2], fn, losses=[ReplicaLoss(1.4, 0)])
    assert found.first_scheduled_s == pytest.approx([2.4]) and found.restarts.tolist() == [0]
    assert found.gpu_loading_s == pytest.approx([0.4, 1.0])


@pytest.mark.parametrize("lost", [0, 1])
def test_a_request_on_its_way_goes_on_where_one_is_left(lost: int) -> None:
    """It leaves replica 0 for replica 1 over a slow link; one of the two is lost meanwhile.

    Where it goes is lost: it has all its blocks yet. Where it comes from: it begins again.

    Freeness of replica 0 is 40 blocks less 11 and more, below 30.
    """
    fn = replay.LlmFunction(
        scheduler="vllm", token_budget=640, replicas=2, num_blocks=40, max_tokens=640,
        watermark=0.0, preset="stoker", migrate_every_s=0.5, migrate_below=30.0, kv_gib_s=0.1,
    )  # fmt: skip
    steps = alone_s(A, 160, 150)
    ends, token_s = np.cumsum(steps), 131072 / (0.1 * GIB)
    before = 160 + int((ends <= 0.5).sum()) - 1
    leaves = int((ends < 0.5 + before * token_s).sum())
    at = float(ends[leaves]) + 0.001
    assert at < ends[leaves] + (160 + leaves - before) * token_s
    found = replay.llm_fleet([0.0], [160], [150], fn, losses=[ReplicaLoss(at, lost)])
    out = leaves + 1
    rest = alone_s(A, 160 + out, 150 - out) if lost == 0 else steps[out:]
    assert found.completed_s[0] == pytest.approx(at + sum(rest), rel=1e-12)
    assert found.replica.tolist() == [1 - lost] and found.restarts.tolist() == [1 - lost]
    assert found.migrations.tolist() == [0] and found.migrations_given_up.tolist() == [1]


def test_a_loss_when_all_is_done_changes_no_byte() -> None:
    asked = ([0.0, 0.1, 0.2], [100, 700, 30], [50, 20, 90])
    fn = replay.LlmFunction(replicas=2)
    without = replay.llm_fleet(*asked, fn)
    late = replay.llm_fleet(*asked, fn, losses=[ReplicaLoss(1e6, 0, 1.0)])
    assert late.completed_s.tobytes() == without.completed_s.tobytes()
    assert late.max_tbt_s.tobytes() == without.max_tbt_s.tobytes()


@pytest.mark.parametrize("lost", [0, 2])
def test_what_the_link_carries_is_sent_once_more(lost: int) -> None:
    """Prompts on 0 and 1, decodes on 2 and 3: lost is where it comes from, or where it goes."""
    fn = replay.LlmFunction(replicas=2, decode_replicas=2, kv_gib_s=0.1)
    first, *rest = alone_s(A, 400, 20)
    token_s = 131072 / (0.1 * GIB)
    at = first + 100 * token_s
    found = replay.llm_fleet(
        [0.0], [400], [20], fn, router="least_outstanding", losses=[ReplicaLoss(at, lost)]
    )  # fmt: skip
    # The link carries what was on it to the end.
    sent = first + 800 * token_s
    if lost == 0:
        again, *rest = alone_s(A, 401, 19)
        sent = max(first + 400 * token_s, at + again) + 401 * token_s
    assert found.first_token_s[0] == pytest.approx(first, rel=1e-12)
    assert found.completed_s[0] == pytest.approx(sent + sum(rest), rel=1e-12)
    assert (found.replica[0], found.decoder[0]) == ((1, 2) if lost == 0 else (0, 3))
    assert found.restarts[0] == (lost == 0) and found.transfers.tolist() == [2]


def test_what_a_lost_replica_decoded_is_a_prompt_again() -> None:
    fn = replay.LlmFunction(replicas=1, decode_replicas=2)
    first, *rest = alone_s(A, 400, 50)
    landed = first + 400 * fn.kv_token_s
    ends = landed + np.cumsum(rest)
    found = replay.llm_fleet([0.0], [400], [50], fn, losses=[ReplicaLoss(0.3, 1)])
    out = 1 + int((ends <= 0.3).sum())
    assert 5 < out < 45
    again, *rest = alone_s(A, 400 + out, 50 - out)
    expected = 0.3 + again + (400 + out) * fn.kv_token_s + sum(rest)
    assert found.completed_s[0] == pytest.approx(expected, rel=1e-12)
    assert found.decoder.tolist() == [2]


def test_requests_fail_while_nobody_decodes() -> None:
    """The decoding replica is away from 0.02 s, in transfer, to 1 s; it loads until 3 s."""
    fn = replay.LlmFunction(replicas=1, decode_replicas=1, kv_gib_s=0.1, load_s=2.0)
    found = replay.llm_fleet(
        [0.0, 0.5, 2.0], [100, 100, 100], [5, 1, 5], fn, losses=[ReplicaLoss(0.05, 1, 0.95)]
    )
    assert found.failed.tolist() == [True, False, False]
    # One output token comes with the prompt.
    first, *rest = alone_s(A, 100, 5)
    assert found.completed_s[1] == pytest.approx(0.5 + first, rel=1e-12)
    assert found.completed_s[2] == pytest.approx(3.0 + 100 * fn.kv_token_s + sum(rest), rel=1e-12)


def test_a_loss_concerns_its_own_function_alone() -> None:
    """Replicas 0 and 1 are the first function's, 2 the second's."""
    known = (replay.LlmFunction(replicas=2), replay.LlmFunction())
    asked = ([0.0, 0.01, 0.02], [100] * 3, [50] * 3, known, [0, 1, 0])
    without = replay.llm_fleet(*asked)
    found = replay.llm_fleet(*asked, losses=[ReplicaLoss(0.2, 2)])
    assert found.failed.tolist() == [False, True, False]
    assert found.completed_s[[0, 2]].tobytes() == without.completed_s[[0, 2]].tobytes()


@st.composite
def losses_of(draw: st.DrawFn, count: int, until_s: float) -> list[ReplicaLoss]:
    """Losses of `count` replicas, one after the other each."""
    found = []
    for k in range(count):
        at = 0.0
        for _ in range(draw(st.integers(0, 3))):
            at += draw(st.floats(0.0, until_s))
            away_s = draw(st.sampled_from((0.0, 0.05, 1.0, math.inf)))
            found.append(ReplicaLoss(at, k, away_s))
            at += away_s
            if at == math.inf:
                break
    return found


@settings(max_examples=300, deadline=None)
@given(
    replicas(("sarathi", "vllm", "orca", "request_level", "fastserve", "vtc")),
    st.integers(1, 4), st.sampled_from(("up", "cold", "on_arrival")),
    st.sampled_from(("stays", "migrates", "apart")), st.sampled_from(ROUTERS), st.data(),
)  # fmt: skip
def test_every_request_ends_and_blocks_suffice(
    asked: dict, count: int, start: str, kind: str, router: str, data: st.DataObject
) -> None:
    requests, fields = split(asked)
    fields |= {"replicas": count, "start": start, "load_s": 0.3}
    if fields["scheduler"] in ("sarathi", "vllm"):
        if kind == "migrates" and start != "on_arrival":
            fields |= {"migrate_every_s": 0.05, "migrate_below": 30.0, "kv_gib_s": 0.02}
        elif kind == "apart":
            fields |= {"decode_replicas": 2, "start": "up", "kv_gib_s": 0.02}
    if fields["scheduler"] == "fastserve":
        router = "round_robin"
    fn = replay.LlmFunction(**fields)
    losses = data.draw(losses_of(fn.sites, float(requests["arrival_s"][-1]) + 0.5))
    found = replay.llm_fleet(**requests, functions=fn, router=router, losses=losses)
    served = ~(found.rejected | found.failed)
    assert np.isfinite(found.completed_s[served]).all()
    assert np.isnan(found.completed_s[~served]).all()
    assert not (found.rejected & found.failed).any()
    assert (found.peak_blocks <= asked["num_blocks"]).all()
    assert (found.gpu_busy_s + found.gpu_loading_s <= found.gpu_up_s + 1e-9).all()
    if not losses:
        assert not found.failed.any()


@pytest.mark.parametrize(
    ("fields", "losses", "says"),
    [
        ({}, [(-1.0, 0)], "loss.t_s = -1.0 .*finite, >= 0"),
        ({}, [(math.nan, 0)], "loss.t_s = nan"),
        ({}, [(1.0, -1)], "loss.replica = -1 .*>= 0"),
        ({}, [(1.0, 2)], r"loss.replica = 2 .*0 \.\. 1"),
        ({}, [(1.0, 0, -2.0)], "loss.away_s = -2.0"),
        ({}, [(3.0, 0), (1.0, 0, 4.0)], "loss.t_s = 3.0 .*>= 5: replica 0 is lost until then"),
        ({"devices": (0, 0)}, [(1.0, 0)], r"devices = \(0, 0\) .*no shared devices"),
        ({"profile": "Qwen/Qwen-2-7B|a30|tp1"}, [(1.0, 0, 2.0)], "load_s = None .*a30"),
    ],
)
def test_a_bad_loss_is_one_line(fields: dict, losses: list, says: str) -> None:
    with pytest.raises(SpecError, match=says) as error:
        replay.llm_fleet(
            [0.0], [10], [3], replay.LlmFunction(**{"replicas": 2} | fields),
            losses=[ReplicaLoss(*x) for x in losses],
        )  # fmt: skip
    assert "\n" not in str(error.value)
