"""Prompts and decodes on replicas of their own, by hand.  Units: seconds, tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replica_reference import iteration_s
from small_replicas import replicas
from test_fleet import REQUESTS, split
from test_fleet_startup import FIGURES, GIB, A, alone_s

from stoker.envs.cluster import replay
from stoker.envs.cluster.errors import SpecError


def test_one_request_is_prompt_then_transfer_then_decode() -> None:
    apart = replay.LlmFunction(decode_replicas=1, kv_gib_s=2.0)
    found = replay.llm_fleet([1.0], [500], [20], apart)
    first, *rest = alone_s(A, 500, 20)
    transfer_s = 500 * 131072 / (2.0 * GIB)
    assert found.first_token_s[0] == pytest.approx(1.0 + first, rel=1e-12)
    assert found.completed_s[0] == pytest.approx(1.0 + first + transfer_s + sum(rest), rel=1e-12)
    assert found.max_tbt_s[0] == pytest.approx(transfer_s + rest[0], rel=1e-12)
    assert found.replica.tolist() == [0] and found.decoder.tolist() == [1]
    assert found.transfers.tolist() == [1]
    assert found.gpu_busy_s == pytest.approx([first, sum(rest)], rel=1e-12)
    # 32 blocks of 16 hold 500 tokens and 12 more; the last of 20 is never held
    assert found.peak_blocks.tolist() == [32, 33]


def test_the_link_carries_one_after_the_other() -> None:
    """Two prompts of one batch; the second one's keys and values wait for the first one's."""
    apart = replay.LlmFunction(scheduler="vllm", token_budget=2048, decode_replicas=2, kv_gib_s=0.5)
    found = replay.llm_fleet([0.0, 0.0], [800, 800], [2, 2], apart)
    both = iteration_s(FIGURES[A], 1600, [(800, 0)] * 2, [])
    last = iteration_s(FIGURES[A], 1, [], [801])
    transfer_s = 800 * 131072 / (0.5 * GIB)
    assert found.first_token_s == pytest.approx([both, both], rel=1e-12)
    assert found.decoder.tolist() == [1, 2]
    expected = [both + transfer_s + last, both + 2 * transfer_s + last]
    assert found.completed_s == pytest.approx(expected, rel=1e-12)


def test_a_request_waits_for_blocks_where_it_decodes_and_holds_those_of_its_prompt() -> None:
    """Eight blocks: three requests of 48 tokens, three blocks each, where only two are let in."""
    apart = replay.LlmFunction(
        scheduler="vllm", token_budget=48, decode_replicas=1, kv_gib_s=1e9, num_blocks=8,
        max_tokens=64, watermark=0.0, preset="stoker",
    )  # fmt: skip
    found = replay.llm_fleet([0.0] * 3, [48] * 3, [16] * 3, apart)
    assert found.restarts.tolist() == [0, 0, 0]
    # the third begins to decode when the first is done: its second token comes after that
    gap_s = found.completed_s[0] - found.first_token_s[2]
    assert found.max_tbt_s[2] > gap_s > 0.1
    assert found.peak_blocks[1] == 8


def test_one_output_token_is_never_sent() -> None:
    found = replay.llm_fleet([0.0], [50], [1], replay.LlmFunction(decode_replicas=1))
    assert found.transfers.tolist() == [0] and found.decoder.tolist() == [-1]


@settings(max_examples=200, deadline=None)
@given(
    replicas(("sarathi", "vllm")), st.integers(1, 3), st.integers(1, 3),
    st.sampled_from((1e-3, 0.1, 25.0)), st.sampled_from(("round_robin", "freeness")),
)  # fmt: skip
def test_every_request_ends_and_blocks_suffice(
    asked: dict, count: int, decoders: int, gib_s: float, router: str
) -> None:
    requests, fields = split(asked)
    apart = replay.LlmFunction(**fields, replicas=count, decode_replicas=decoders, kv_gib_s=gib_s)
    found = replay.llm_fleet(**{k: requests[k] for k in REQUESTS}, functions=apart, router=router)
    served = ~found.rejected
    assert np.isfinite(found.completed_s[served]).all()
    assert (found.peak_blocks <= asked["num_blocks"]).all()
    assert (found.replica < count).all()
    sent = found.decoder >= 0
    assert (found.decoder[sent] >= count).all() and sent.sum() == found.transfers[0]
    assert (sent[served] == (asked["output_tokens"] > 1)[served]).all()
    spent_s = asked["prompt_tokens"] * apart.kv_token_s
    both = served & sent
    waits = found.completed_s - found.first_token_s
    assert (waits[both] >= spent_s[both] * (1 - 1e-12)).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"decode_replicas": -1}, "decode_replicas = -1"),
        ({"decode_replicas": 1, "scheduler": "orca"}, "sarathi or vllm"),
        ({"decode_replicas": 1, "start": "cold"}, "start up"),
        ({"kv_gib_s": 0.0}, "kv_gib_s = 0.0"),
    ],
)
def test_a_bad_value_is_one_line(change: dict, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        replay.LlmFunction(**change)
