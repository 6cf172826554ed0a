"""Bad values are one line that names the field; requests that cannot be served are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stoker.envs.cluster import replay
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.llm.replica import SCHEDULERS

GOOD: dict[str, Any] = {
    "arrival_s": [0.0, 1.0], "prompt_tokens": [10, 20], "output_tokens": [3, 4],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arrival_s": [0.0, np.nan]}, r"arrival_s\[1\] = nan .*finite, >= 0"),
        ({"arrival_s": [0.0, np.inf]}, r"arrival_s\[1\] = inf"),
        ({"arrival_s": [-1.0, 0.0]}, r"arrival_s\[0\] = -1.0"),
        ({"arrival_s": [1.0, 0.5]}, r"arrival_s\[1\] = 0.5 .*ascending"),
        ({"arrival_s": [[0.0, 1.0]]}, "arrival_s: dimensions = 2"),
        ({"arrival_s": ["a", "b"]}, "arrival_s = .*numbers"),
        ({"prompt_tokens": [10]}, r"prompt_tokens: length = 1 .*one entry a request \(2\)"),
        ({"prompt_tokens": [10, 0]}, r"prompt_tokens\[1\] = 0.0 .*integers 1"),
        ({"prompt_tokens": [10, 2.5]}, r"prompt_tokens\[1\] = 2.5"),
        ({"output_tokens": [0, 1]}, r"output_tokens\[0\] = 0.0 .*integers 1"),
        ({"output_tokens": [np.nan, 1]}, r"output_tokens\[0\] = nan"),
        ({"client": [0, -1]}, r"client\[1\] = -1.0 .*integers 0 .. 1"),
        ({"client": [0, 7]}, r"client\[1\] = 7.0"),
        ({"profile": "gpt"}, "profile = 'gpt' .*nearest"),
        ({"scheduler": "srpt"}, "scheduler = 'srpt' .*sarathi | vllm"),
        ({"form": "cubic"}, r"form = 'cubic' .*roofline \| pwl \| table"),
        ({"preset": "vllm"}, r"preset = 'vllm' .*vidur \| stoker"),
        ({"num_blocks": 0}, "num_blocks = 0 .*>= 1"),
        ({"num_blocks": 2.0}, "num_blocks = 2.0 .*integer"),
        ({"scheduler": "orca", "num_blocks": 255}, "num_blocks = 255 .*>= 256"),
        ({"scheduler": "request_level", "num_blocks": 255}, "num_blocks = 255 .*>= 256"),
        ({"block_size": 0}, "block_size = 0"),
        ({"token_budget": 0}, "token_budget = 0"),
        ({"max_batch": True}, "max_batch = True"),
        ({"max_tokens": 1}, "max_tokens = 1 .*>= 2"),
        ({"watermark": 1.0}, "watermark = 1.0 .*fraction"),
        ({"watermark": np.nan}, "watermark = nan"),
        ({"t_cpu_s": -1.0}, "t_cpu_s = -1.0 .*seconds >= 0"),
        ({"t_cpu_s": "fast"}, "t_cpu_s = 'fast' .*vllm2023"),
        ({"log_iterations": -1}, "log_iterations = -1"),
    ],
)
def test_a_bad_value_is_one_line(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says) as error:
        replay.llm_replica(**(GOOD | change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("preset", ["vidur", "stoker"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_request_too_long_is_counted_and_holds_up_nobody(scheduler: str, preset: str) -> None:
    found = replay.llm_replica(
        [0.0, 0.0, 0.0, 0.0], [50, 200, 30, 90], [10, 10, 10, 39], scheduler=scheduler,
        max_tokens=128, num_blocks=8, token_budget=128, preset=preset,
    )  # fmt: skip
    # one is longer than max_tokens, the last than max_tokens by a token
    assert found.rejected.tolist() == [False, True, False, True]
    assert np.isnan(found.completed_s).tolist() == [False, True, False, True]
    assert np.isnan(found.first_token_s).tolist() == [False, True, False, True]


def test_a_request_longer_than_all_blocks_is_counted() -> None:
    # 8 blocks of 16 hold 128 tokens; the last output token is never held
    found = replay.llm_replica([0.0, 0.0], [100, 100], [29, 30], num_blocks=8, watermark=0.0)
    assert found.rejected.tolist() == [False, True]


def test_vllm_refuses_a_prompt_over_its_limit() -> None:
    found = replay.llm_replica([0.0, 0.0], [513, 512], [2, 2], scheduler="vllm")
    assert found.rejected.tolist() == [True, False]


def test_the_watermark_keeps_a_large_prompt_out_under_vidur_alone() -> None:
    sizes = {"num_blocks": 10, "watermark": 0.2}
    asked = {"arrival_s": [0.0], "prompt_tokens": [9 * 16], "output_tokens": [2]}
    assert replay.llm_replica(**asked, **sizes).rejected.tolist() == [True]
    assert replay.llm_replica(**asked, **sizes, preset="stoker").rejected.tolist() == [False]
