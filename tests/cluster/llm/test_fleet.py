"""Many replicas: the single replica's bytes, routing against plain Python, nothing lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fleet_reference import Site, serve
from hypothesis import given, settings
from hypothesis import strategies as st
from replica_reference import Replica, Request
from small_replicas import replicas

from stoker.envs.cluster import replay
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.llm import calibration
from stoker.envs.cluster.llm.replica import SCHEDULERS

ALL = tuple(SCHEDULERS)
REQUESTS = ("arrival_s", "prompt_tokens", "output_tokens", "client")
TIMES = ("first_scheduled_s", "first_token_s", "completed_s", "max_tbt_s")
COLUMNS = (*TIMES, "restarts", "rejected")
ROUTERS = ("round_robin", "least_outstanding", "freeness")


def split(asked: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The requests, and the rest: fields of a function."""
    return {k: asked[k] for k in REQUESTS}, {k: v for k, v in asked.items() if k not in REQUESTS}


@settings(max_examples=150, deadline=None)
@given(replicas(ALL), st.sampled_from(ROUTERS))
def test_one_replica_is_the_replica_to_the_byte(asked: dict[str, Any], router: str) -> None:
    if router == "freeness" and asked["scheduler"] == "fastserve":
        router = "round_robin"
    requests, fields = split(asked)
    alone = replay.llm_replica(**asked)
    fleet = replay.llm_fleet(**requests, functions=replay.LlmFunction(**fields), router=router)
    for name in COLUMNS:
        assert getattr(alone, name).tobytes() == getattr(fleet, name).tobytes(), name
    assert fleet.iterations.tolist() == [alone.iterations]
    assert fleet.peak_blocks.tolist() == [alone.peak_blocks]
    np.testing.assert_equal(fleet.makespan_s, alone.makespan_s)


@settings(max_examples=150, deadline=None)
@given(replicas(ALL), st.integers(2, 4))
def test_round_robin_is_so_many_replicas_each_with_its_part(
    asked: dict[str, Any], count: int
) -> None:
    requests, fields = split(asked)
    fleet = replay.llm_fleet(**requests, functions=replay.LlmFunction(**fields, replicas=count))
    for k in range(count):
        part = {name: requests[name][k::count] for name in REQUESTS}
        part["client"] = np.minimum(part["client"], max(len(part["client"]) - 1, 0))
        if asked["scheduler"] == "vtc" and (part["client"] != requests["client"][k::count]).any():
            return
        alone = replay.llm_replica(**part, **fields)
        for name in COLUMNS:
            assert getattr(alone, name).tobytes() == getattr(fleet, name)[k::count].tobytes(), name
        assert fleet.iterations[k] == alone.iterations
        assert (fleet.replica[k::count] == k).all()


@settings(max_examples=200, deadline=None)
@given(
    replicas(("sarathi", "vllm", "orca")),
    st.integers(2, 4),
    st.sampled_from(("least_outstanding", "freeness")),
)
def test_routing_equals_plain_python(asked: dict[str, Any], count: int, router: str) -> None:
    requests, fields = split(asked)
    # Arrivals never meet the end of an iteration, whose time is summed up in another order here.
    requests["arrival_s"] = requests["arrival_s"] + 1e-6 * np.arange(len(requests["arrival_s"]))
    found = replay.llm_fleet(
        **requests, functions=replay.LlmFunction(**fields, replicas=count), router=router
    )
    figures = dict(calibration.profile(asked["profile"]).figures)
    sites = [
        Site(
            Replica(
                figures, asked["scheduler"], asked["token_budget"], asked["num_blocks"],
                asked["block_size"], asked["max_batch"], asked["max_tokens"],
                asked["watermark"], asked["preset"] == "vidur",
            )
        )
        for _ in range(count)
    ]  # fmt: skip
    columns = zip(
        requests["arrival_s"].tolist(), requests["prompt_tokens"].tolist(),
        (requests["prompt_tokens"] + requests["output_tokens"]).tolist(), strict=True,
    )  # fmt: skip
    expected = [Request(q, *x) for q, x in enumerate(columns)]
    assert found.replica.tolist() == serve(sites, expected, router)
    assert found.restarts.tolist() == [x.restarts for x in expected]
    assert found.rejected.tolist() == [x.rejected for x in expected]
    served = ~found.rejected
    first = [x.tokens_at[0] for x in expected if not x.rejected]
    np.testing.assert_allclose(found.first_token_s[served], first, rtol=1e-9)
    completed = [x.completed for x in expected if not x.rejected]
    np.testing.assert_allclose(found.completed_s[served], completed, rtol=1e-9)


GIB = 2.0**30
PAIR = ("meta-llama/Meta-Llama-3-8B|a100|tp1", "meta-llama/Llama-2-7b-hf|a100|tp1")


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of `llm_fleet`: two functions that start in any way, alone or on shared devices."""
    asked = draw(replicas(ALL))
    requests, fields = split(asked)
    fields["block_size"] = 16
    least = -(-fields["max_tokens"] // 16)
    shared = draw(st.booleans())
    known, need = [], []
    for name in PAIR:
        count = draw(st.integers(1, 3))
        start = draw(st.sampled_from(("up", "cold", "on_arrival")))
        comes = start == "on_arrival"
        known.append(
            replay.LlmFunction(
                **fields | {"profile": name, "num_blocks": least + 5},
                replicas=count,
                start=start,
                load_s=draw(st.sampled_from((0.0, 0.5, 3.0))),
                keep_alive_s=draw(st.sampled_from((0.0, 0.3, 5.0, np.inf))) if comes else np.inf,
                scale_at=draw(st.sampled_from((None, 1, 3))) if comes else None,
                devices=(0,) * count if shared else None,
            )
        )
        figures = calibration.profile(name).figures
        blocks = 16 * figures["kv_token_bytes"] * known[-1].least_blocks
        need.append((figures["weight_bytes"] + blocks, count, comes))
    if shared:
        # What must be there from the beginning, or the largest alone, and a little more.
        fixed = sum(x * n for x, n, comes in need if not comes)
        least_bytes = max(fixed, *(x for x, _, _ in need))
        room = 1 + draw(st.sampled_from((0.001, 0.01, 0.6)))
        fraction = least_bytes * room / (80 * GIB)
        if fraction > 1.0:
            known = [replay.LlmFunction(**vars(x) | {"devices": None}) for x in known]
            fraction = 0.9
        requests["memory_fraction"] = fraction
    n = len(requests["arrival_s"])
    requests["function"] = np.random.default_rng(n).integers(0, 2, n)
    routers = ROUTERS[:2] if fields["scheduler"] == "fastserve" else ROUTERS
    return {**requests, "functions": known, "router": draw(st.sampled_from(routers))}


@settings(max_examples=300, deadline=None)
@given(fleets())
def test_every_request_ends_and_memory_suffices(asked: dict[str, Any]) -> None:
    found = replay.llm_fleet(**asked)
    served = ~found.rejected
    assert np.isfinite(found.completed_s[served]).all()
    assert np.isnan(found.completed_s[~served]).all()
    assert (found.first_scheduled_s[served] >= asked["arrival_s"][served]).all()
    assert (found.completed_s[served] >= found.first_token_s[served]).all()
    first, second = asked["functions"]
    there = found.replica >= 0
    assert there[served].all()
    assert ((found.replica >= first.replicas) == (asked["function"] == 1))[there].all()
    if first.devices is None:
        assert (found.peak_blocks <= first.num_blocks).all()
    else:
        budget_gib = asked["memory_fraction"] * 80
        assert (found.peak_gib <= budget_gib * (1 + 1e-12)).all()
        # one batch at a time
        assert found.gpu_busy_s.sum() <= max(np.nanmax([found.makespan_s, 0.0]), 0.0) + 1e-9
    spent = found.gpu_busy_s + found.gpu_loading_s
    assert (spent <= found.gpu_up_s + 1e-9).all()
    for fn, here in ((first, slice(0, first.replicas)), (second, slice(first.replicas, None))):
        starts = found.cold_starts[here]
        # On a shared device those that are up may have to leave, and come again.
        least = {"up": 0, "cold": 1, "on_arrival": 0}[fn.start]
        stays = fn.start != "on_arrival" and fn.devices is None
        assert (starts == least).all() if stays else (starts >= least).all()
        assert (found.gpu_loading_s[here] <= starts * fn.loading_s + 1e-9).all()


def test_fleets_in_threads_give_the_same_bytes() -> None:
    rng = np.random.default_rng(1)
    asked = {
        "arrival_s": np.cumsum(rng.exponential(0.02, 2000)),
        "prompt_tokens": rng.integers(10, 2000, 2000),
        "output_tokens": rng.integers(1, 300, 2000),
        "functions": replay.LlmFunction(replicas=6),
        "router": "freeness",
    }
    alone = replay.llm_fleet(**asked)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: replay.llm_fleet(**asked), range(4)))
    for x in found:
        assert x.completed_s.tobytes() == alone.completed_s.tobytes()
        assert x.replica.tobytes() == alone.replica.tobytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"router": "random"}, r"router = 'random' .*round_robin \| least_outstanding"),
        ({"functions": []}, "functions = .*at least one"),
        ({"function": [0, 1]}, r"function\[1\] = 1.0 .*integers 0 .. 0"),
        ({"memory_fraction": 0.0}, "memory_fraction = 0.0"),
        ({"fields": {"replicas": 0}}, "replicas = 0 .*>= 1"),
        ({"fields": {"start": "warm"}}, "start = 'warm' .*up | cold"),
        ({"fields": {"load_s": -1.0}}, "load_s = -1.0"),
        ({"fields": {"keep_alive_s": 3.0}}, "keep_alive_s = 3.0 .*on_arrival"),
        ({"fields": {"scale_at": 3}}, "scale_at = 3 .*on_arrival"),
        ({"fields": {"scale_at": 0, "start": "on_arrival"}}, "scale_at = 0 .*>= 1"),
        ({"fields": {"devices": (0, 1)}}, "devices: length = 2 .*1, replicas"),
        ({"fields": {"devices": (1,)}}, "devices = 0 .*from 0 on"),
        ({"fields": {"devices": (0,)}, "memory_fraction": 0.1}, "devices: GiB a GPU on 0 = "),
        ({"fields": {"scheduler": "srpt"}}, "scheduler = 'srpt'"),
        ({"fields": {"scheduler": "fastserve"}, "router": "freeness"}, r"functions\[0\].scheduler"),
        (
            {"fields": {"profile": "Qwen/Qwen-2-7B|a30|tp1", "start": "cold"}},
            "load_s = None .*a30 is unknown",
        ),
    ],
)
def test_a_bad_value_is_one_line(change: dict[str, Any], says: str) -> None:
    change = dict(change)
    fields = change.pop("fields", {})
    asked = {"arrival_s": [0.0, 1.0], "prompt_tokens": [10, 20], "output_tokens": [3, 4]}
    with pytest.raises(SpecError, match=says) as error:
        replay.llm_fleet(**{**asked, "functions": replay.LlmFunction(**fields), **change})
    assert "\n" not in str(error.value)
