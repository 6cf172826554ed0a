"""Live migration: by hand, and nothing lost.  Units: seconds, tokens, blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replica_reference import iteration_s
from small_replicas import replicas
from test_fleet import ROUTERS, split
from test_fleet_startup import FIGURES, GIB, A, alone_s

from stoker.envs.cluster import replay
from stoker.envs.cluster.errors import SpecError


def test_a_running_request_moves_and_stops_for_the_last_stage_only() -> None:
    """Two requests on replica 0, the third, on replica 1, is done at once.

    Freeness of replica 0: 40 blocks less 11 and 21 for two = 4, below 5; replica 1 is empty. The
    first look is at half a second: the shorter request, 160 tokens and some, goes.
    """
    fn = replay.LlmFunction(
        scheduler="vllm", replicas=2, num_blocks=40, max_tokens=640, watermark=0.0,
        preset="stoker", migrate_every_s=0.5, migrate_below=5.0, kv_gib_s=1.0,
    )  # fmt: skip
    arrival_s, prompt, output = [0.0, 0.0, 0.0], [160, 10, 320], [100, 1, 100]
    found = replay.llm_fleet(arrival_s, prompt, output, fn)
    assert found.replica.tolist() == [0, 1, 0]
    token_s = 131072 / GIB
    now = iteration_s(FIGURES[A], 480, [(160, 0), (320, 0)], [])
    done, ends = 0, [now]
    move_at = None
    while move_at is None:
        # iteration after iteration of both, until the copy that began at 0.5 s is over
        step = iteration_s(FIGURES[A], 2, [], [161 + done, 321 + done])
        if now <= 0.5 < now + step:
            copied_s = 0.5 + (160 + done) * token_s
            first_copy = 160 + done
        now += step
        done += 1
        ends.append(now)
        if now > 0.5 and now >= copied_s:
            move_at = now
    landed = move_at + (160 + done - first_copy) * token_s
    assert found.migrations.tolist() == [1] and found.migrations_given_up.tolist() == [0]
    assert found.decoder.tolist() == [1, -1, -1]
    alone = [iteration_s(FIGURES[A], 1, [], [161 + k]) for k in range(done, 99)]
    assert found.completed_s[0] == pytest.approx(landed + sum(alone), rel=1e-12)
    stays = [iteration_s(FIGURES[A], 1, [], [321 + k]) for k in range(done, 99)]
    assert found.completed_s[2] == pytest.approx(move_at + sum(stays), rel=1e-12)
    gap = landed - move_at + alone[0]
    assert found.max_tbt_s[0] == pytest.approx(gap, rel=1e-9)


def test_nobody_is_sent_where_there_is_no_place() -> None:
    """One place each: the request of replica 1 keeps it, and who is crowded goes when it is free.

    Freeness of replica 0: 40 blocks less 11 in use and 20 asked for, for two, is 4.5, below 5. The
    look at half a second finds replica 1 with 35 blocks free but its place taken, that at a second
    finds it empty. What once went there all the same ran over the end of the running list.
    """
    fn = replay.LlmFunction(
        scheduler="vllm", replicas=2, num_blocks=40, max_batch=1, max_tokens=640, watermark=0.0,
        preset="stoker", migrate_every_s=0.5, migrate_below=5.0, kv_gib_s=1.0,
    )  # fmt: skip
    found = replay.llm_fleet([0.0] * 3, [160, 10, 320], [150, 60, 10], fn)
    assert found.replica.tolist() == [0, 1, 0]
    stays = sum(alone_s(A, 10, 60))
    assert 0.5 < stays < 1.0
    assert found.completed_s[1] == pytest.approx(stays, rel=1e-12)
    steps = alone_s(A, 160, 150)
    ends = np.cumsum(steps)
    token_s = 131072 / GIB
    # Tokens with keys and values when the copy begins: the prompt and those of ended iterations.
    before = 160 + int((ends <= 1.0).sum()) - 1
    leaves = int((ends < 1.0 + before * token_s).sum())
    after = 160 + leaves
    landed = ends[leaves] + (after - before) * token_s
    assert found.migrations.tolist() == [1] and found.decoder.tolist() == [1, -1, -1]
    assert found.completed_s[0] == pytest.approx(landed + sum(steps[leaves + 1 :]), rel=1e-12)
    assert found.first_scheduled_s[2] == pytest.approx(ends[leaves], rel=1e-12)


def test_who_comes_while_a_request_moves_may_take_its_place() -> None:
    """The last stage takes long: a request that comes meanwhile runs to its end before it."""
    fn = replay.LlmFunction(
        scheduler="vllm", replicas=2, num_blocks=40, max_batch=1, max_tokens=640, watermark=0.0,
        preset="stoker", migrate_every_s=0.5, migrate_below=5.0, kv_gib_s=0.1,
    )  # fmt: skip
    steps = alone_s(A, 160, 150)
    ends, token_s = np.cumsum(steps), 131072 / (0.1 * GIB)
    before = 160 + int((ends <= 0.5).sum()) - 1
    leaves = int((ends < 0.5 + before * token_s).sum())
    left = ends[leaves]
    comes = left + 0.001
    assert left + (160 + leaves - before) * token_s > comes
    found = replay.llm_fleet([0.0] * 3 + [comes], [160, 10, 320, 10], [150, 1, 1, 100], fn)
    assert found.replica.tolist() == [0, 1, 0, 1]
    gone = comes + sum(alone_s(A, 10, 100))
    assert gone > left + (160 + leaves - before) * token_s
    assert found.completed_s[3] == pytest.approx(gone, rel=1e-12)
    assert found.completed_s[0] == pytest.approx(gone + sum(steps[leaves + 1 :]), rel=1e-12)


def test_who_waits_for_a_place_gets_that_of_one_that_runs_out_of_memory() -> None:
    """As above, but the request that came meanwhile lacks a block: those left wait with the other.

    20 blocks: 15 of the one that moves, five of the other, full with 80 tokens.
    """
    fn = replay.LlmFunction(
        scheduler="vllm", replicas=2, num_blocks=20, max_batch=1, max_tokens=320, watermark=0.0,
        preset="stoker", migrate_every_s=0.5, migrate_below=5.0, kv_gib_s=0.1,
    )  # fmt: skip
    steps = alone_s(A, 160, 150)
    ends, token_s = np.cumsum(steps), 131072 / (0.1 * GIB)
    before = 160 + int((ends <= 0.5).sum()) - 1
    leaves = int((ends < 0.5 + before * token_s).sum())
    assert -(-(160 + leaves) // 16) == 15
    comes = float(ends[leaves]) + 0.001
    # Two more keep replica 0 busy all the time, so that nobody moves there.
    found = replay.llm_fleet(
        [0.0] * 5 + [comes], [160, 10, 100, 10, 100, 10], [150, 1, 200, 1, 200, 100], fn
    )
    assert found.replica.tolist() == [0, 1, 0, 1, 0, 1]
    lacks = comes + sum(alone_s(A, 10, 100)[: 81 - 10])
    done = lacks + sum(steps[leaves + 1 :])
    assert found.restarts.tolist() == [0, 0, 0, 0, 0, 1]
    assert found.completed_s[0] == pytest.approx(done, rel=1e-12)
    assert found.completed_s[5] == pytest.approx(done + sum(alone_s(A, 81, 29)), rel=1e-12)


def test_nobody_looks_while_nothing_runs() -> None:
    """A look every millisecond, and a request in a billion seconds: rest takes no time."""
    fn = replay.LlmFunction(replicas=2, migrate_every_s=1e-3)
    found = replay.llm_fleet([0.0, 1e9], [100, 100], [3, 3], fn)
    assert found.completed_s[1] - 1e9 == pytest.approx(sum(alone_s(A, 100, 3)), abs=1e-6)


@settings(max_examples=300, deadline=None)
@given(
    replicas(("sarathi", "vllm")), st.integers(2, 4), st.sampled_from((0.01, 0.1, 1.0)),
    st.sampled_from((3.0, 30.0, 300.0)), st.sampled_from((1e-3, 0.02, 25.0)),
    st.sampled_from(ROUTERS),
)  # fmt: skip
def test_every_request_ends_and_blocks_suffice(
    asked: dict, count: int, every_s: float, below: float, gib_s: float, router: str
) -> None:
    requests, fields = split(asked)
    fn = replay.LlmFunction(
        **fields, replicas=count, migrate_every_s=every_s, migrate_below=below, kv_gib_s=gib_s
    )
    found = replay.llm_fleet(**requests, functions=fn, router=router)
    served = ~found.rejected
    assert np.isfinite(found.completed_s[served]).all()
    assert (found.peak_blocks <= asked["num_blocks"]).all()
    assert ((found.decoder >= 0).sum() <= found.migrations[0]).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"migrate_every_s": 0.0}, "migrate_every_s = 0.0"),
        ({"migrate_every_s": 1.0, "scheduler": "orca"}, "sarathi or vllm"),
        ({"migrate_every_s": 1.0, "decode_replicas": 1}, "none, no shared"),
        ({"migrate_every_s": 1.0, "start": "on_arrival"}, "up or cold"),
        ({"migrate_below": np.nan}, "migrate_below = nan"),
    ],
)
def test_a_bad_value_is_one_line(change: dict, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        replay.LlmFunction(**change)
