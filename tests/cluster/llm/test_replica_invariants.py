"""What holds for every scheduler: nothing lost, memory never over-full, stretches exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from small_replicas import replicas

from stoker.envs.cluster import replay
from stoker.envs.cluster.llm.replica import SCHEDULERS

ALL = tuple(SCHEDULERS)


@settings(max_examples=300, deadline=None)
@given(replicas(ALL))
def test_stretches_equal_single_iterations(asked: dict[str, Any]) -> None:
    stretched = replay.llm_replica(**asked)
    single = replay.llm_replica(**asked, log_iterations=100_000)
    assert len(single.log.end_s) == single.iterations == stretched.iterations
    assert stretched.restarts.tolist() == single.restarts.tolist()
    assert stretched.rejected.tolist() == single.rejected.tolist()
    assert stretched.peak_blocks == single.peak_blocks
    np.testing.assert_allclose(stretched.client_service, single.client_service)
    for name in ("first_scheduled_s", "first_token_s", "completed_s", "max_tbt_s"):
        ours, theirs = getattr(stretched, name), getattr(single, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=name)


@settings(max_examples=200, deadline=None)
@given(replicas(ALL))
def test_every_request_ends_and_blocks_suffice(asked: dict[str, Any]) -> None:
    found = replay.llm_replica(**asked, log_iterations=100_000)
    assert found.peak_blocks <= asked["num_blocks"]
    served = ~found.rejected
    assert np.isfinite(found.completed_s[served]).all()
    assert np.isnan(found.completed_s[~served]).all()
    scheduled, first = found.first_scheduled_s[served], found.first_token_s[served]
    assert (scheduled >= asked["arrival_s"][served]).all() and (first > scheduled).all()
    assert (found.completed_s[served] >= first).all()
    log = found.log
    assert (log.end_s > log.start_s).all() and (log.start_s[1:] >= log.end_s[:-1]).all()
    assert (log.tokens == log.chunk_tokens + log.decodes).all()
    for members in log.members:
        assert len(set(members)) == len(members) <= asked["max_batch"]


@settings(max_examples=100, deadline=None)
@given(replicas(ALL))
def test_tokens_computed_are_those_asked_for_and_those_recomputed(asked: dict[str, Any]) -> None:
    found = replay.llm_replica(**asked, log_iterations=100_000)
    computed = np.zeros(len(asked["arrival_s"]), np.int64)
    for members, tokens in zip(found.log.members, found.log.member_tokens, strict=True):
        computed[members] += tokens
    # The last output token is never fed back.
    wanted = asked["prompt_tokens"] + asked["output_tokens"] - 1
    once = (found.restarts == 0) & ~found.rejected
    assert (computed[once] == wanted[once]).all()
    assert (computed[~found.rejected] >= wanted[~found.rejected]).all()


def test_no_requests_at_all() -> None:
    found = replay.llm_replica([], [], [])
    assert found.iterations == 0 and np.isnan(found.makespan_s) and len(found.completed_s) == 0
