"""Requests that a fleet cannot serve are counted and hold up nobody; bad values are one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stoker.envs.cluster import replay
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.llm.replica import SCHEDULERS

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"replicas": 2},
    "apart": {"replicas": 1, "decode_replicas": 1},
    "migrating": {"replicas": 2, "migrate_every_s": 0.01, "migrate_below": 300.0},
    "on_arrival": {"replicas": 2, "start": "on_arrival", "load_s": 0.5, "keep_alive_s": 0.1},
    "shared": {"replicas": 2, "devices": (0, 0)},
}
FOR = {kind: ("sarathi", "vllm") if kind in ("apart", "migrating") else tuple(SCHEDULERS)
       for kind in KINDS}  # fmt: skip


@pytest.mark.parametrize("preset", ["vidur", "stoker"])
@pytest.mark.parametrize(
    ("kind", "scheduler"), [(kind, name) for kind, names in FOR.items() for name in names]
)
def test_a_request_longer_than_the_context_is_counted(
    kind: str, scheduler: str, preset: str
) -> None:
    fn = replay.LlmFunction(
        scheduler=scheduler, preset=preset, max_tokens=128, num_blocks=8, token_budget=128,
        watermark=0.0, **KINDS[kind],
    )  # fmt: skip
    found = replay.llm_fleet([0.0, 0.0, 0.0, 0.0], [50, 200, 30, 90], [10, 10, 10, 39], fn)
    assert found.rejected.tolist() == [False, True, False, True]
    assert np.isnan(found.completed_s).tolist() == [False, True, False, True]
    assert not found.failed.any()


@pytest.mark.parametrize("kind", ["plain", "apart", "migrating", "on_arrival"])
def test_a_request_longer_than_all_blocks_is_counted(kind: str) -> None:
    """Eight blocks of 16 hold 128 tokens; the last output token is never held."""
    fn = replay.LlmFunction(num_blocks=8, watermark=0.0, preset="stoker", **KINDS[kind])
    found = replay.llm_fleet([0.0, 0.0, 9.0], [100, 100, 20], [29, 30, 5], fn)
    assert found.rejected.tolist() == [False, True, False]
    assert np.isfinite(found.completed_s).tolist() == [True, False, True]


def test_a_fleet_that_is_never_called_or_refuses_everything_ends() -> None:
    fn = replay.LlmFunction(replicas=2, migrate_every_s=0.01, max_tokens=64)
    assert len(replay.llm_fleet([], [], [], fn).completed_s) == 0
    assert replay.llm_fleet([0.0, 5.0], [100, 100], [2, 2], fn).rejected.all()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_blocks": 0}, "num_blocks = 0 .*>= 1"),
        ({"block_size": 0}, "block_size = 0"),
        ({"max_tokens": 1}, "max_tokens = 1 .*>= 2"),
        ({"profile": "gpt"}, "profile = 'gpt' .*nearest"),
        ({"scheduler": "orca", "num_blocks": 255}, "num_blocks = 255 .*>= 256"),
        ({"scheduler": "fastserve", "decode_replicas": 1}, "sarathi or vllm, with decode_replicas"),
        ({"decode_replicas": 1, "devices": (0,)}, "no shared devices, .*with decode_replicas"),
        ({"decode_replicas": -1}, "decode_replicas = -1 .*>= 0"),
        ({"kv_gib_s": 0.0}, "kv_gib_s = 0.0 .*> 0"),
    ],
)
def test_a_bad_value_is_one_line(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says) as error:
        replay.llm_fleet([0.0], [10], [3], replay.LlmFunction(**fields))
    assert "\n" not in str(error.value)
