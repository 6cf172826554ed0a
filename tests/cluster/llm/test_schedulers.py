"""Schedulers beyond Vidur's: hand-worked cases of FastServe, VTC, request-level batching.

Units: seconds, tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from replica_reference import iteration_s

from stoker.envs.cluster import replay
from stoker.envs.cluster.llm import calibration
from stoker.envs.cluster.llm.replica import OUTPUT_COST, PROMPT_COST

FIGURES = dict(calibration.profile("meta-llama/Meta-Llama-3-8B|a100|tp1").figures)


def prompt_s(n: int) -> float:
    return iteration_s(FIGURES, n, [(n, 0)], [])


def decode_s(*contexts: int) -> float:
    return iteration_s(FIGURES, len(contexts), [], list(contexts))


def test_fastserve_by_hand() -> None:
    """One place. An iteration takes 10.5 ms, so both prompts of 8 tokens join the level of 20 ms.

    a runs 2 iterations there and sinks, then 4 at 40 ms and sinks to 80 ms. b comes in a's seventh
    iteration, goes first with its prompt and one token, sinks to 40 ms, still above a, and ends.
    """
    step = [prompt_s(8)] + [decode_s(9 + k) for k in range(29)]
    assert 0.010 < step[0] < 0.0107 and 0.010 < step[29] < 0.0107
    b_at = sum(step[:6]) + 0.001
    found = replay.llm_replica(
        [0.0, b_at], [8, 8], [30, 3], scheduler="fastserve", max_batch=1, log_iterations=40
    )
    b_from, b_to = sum(step[:7]), sum(step[:7]) + sum(step[:3])
    assert found.first_scheduled_s[1] == pytest.approx(b_from)
    assert found.completed_s[1] == pytest.approx(b_to)
    assert found.max_tbt_s[0] == pytest.approx(b_to - b_from + step[7])
    assert found.completed_s[0] == pytest.approx(b_to + sum(step[7:]))
    assert [m[0] for m in found.log.members] == [0] * 7 + [1] * 3 + [0] * 23


def test_fastserve_skips_levels_by_the_prompt() -> None:
    """A prompt of 2,000 tokens takes 8 to 16 quanta: it joins at level 4, those of 8 at level 1."""
    assert 0.080 < prompt_s(2000) < 0.160
    found = replay.llm_replica(
        [0.0, 0.0, 0.0], [2000, 8, 8], [2, 2, 2], scheduler="fastserve", max_batch=1,
        token_budget=4096, log_iterations=10,
    )  # fmt: skip
    assert [m[0] for m in found.log.members] == [1, 1, 2, 2, 0, 0]


def test_fastserve_rescues_who_starved() -> None:
    """Short requests without a pause keep a long one down, but not for ever.

    Looked after at iterations that are multiples of 1,000, 10.5 s apart, and after 3 s of waiting.
    """
    n = 1500
    arrival = np.concatenate([[0.0], 0.02 * np.arange(n)])
    found = replay.llm_replica(
        arrival, np.full(n + 1, 8), np.concatenate([[40], np.full(n, 2)]),
        scheduler="fastserve", max_batch=1,
    )  # fmt: skip
    # It sinks; new requests fill every place at 95 % or more until the rescue.
    assert 10.0 < found.completed_s[0] < 45.0
    assert found.max_tbt_s[0] > 3.0


def mixed(rate_hz: float, n: int = 400, seed: int = 0) -> dict[str, Any]:
    """Chat-like requests, one in ten with a long answer."""
    rng = np.random.default_rng(seed)
    long = rng.random(n) < 0.1
    return {
        "arrival_s": np.cumsum(rng.exponential(1.0 / rate_hz, n)),
        "prompt_tokens": rng.integers(20, 400, n),
        "output_tokens": np.where(long, rng.integers(800, 1500, n), rng.integers(5, 60, n)),
    }


def test_a_request_level_batch_ends_before_the_next_begins() -> None:
    found = replay.llm_replica(
        [0.0, 0.0, 0.0], [10, 10, 10], [2, 9, 2], scheduler="request_level", max_batch=2,
        log_iterations=20,
    )  # fmt: skip
    assert found.log.members == [[0, 1], [0, 1], *[[1]] * 7, [2], [2]]
    assert found.first_scheduled_s[2] == found.completed_s[1]


@pytest.mark.parametrize("seed", range(3))
def test_orca_serves_what_request_level_batching_cannot(seed: int) -> None:
    work = mixed(20.0, seed=seed)
    ends = {
        name: replay.llm_replica(**work, scheduler=name, max_batch=16).makespan_s
        for name in ("orca", "request_level")
    }
    assert ends["request_level"] > 2.0 * ends["orca"]


def service(found: Any, asked: dict[str, Any]) -> np.ndarray:
    """Service of each client up to each iteration. Shape: (iterations, clients)"""
    client = np.asarray(asked["client"])
    out = np.zeros((len(found.log.end_s), int(client.max()) + 1))
    started: set[int] = set()
    for k, (members, tokens) in enumerate(
        zip(found.log.members, found.log.member_tokens, strict=True)
    ):
        for q, c in zip(members, tokens, strict=True):
            # whole prompts: an iteration gives each member exactly one output token
            out[k, client[q]] += OUTPUT_COST
            if q not in started:
                started.add(q)
                out[k, client[q]] += PROMPT_COST * c
    return out.cumsum(0)


def backlogged(n: int = 600, seed: int = 0) -> dict[str, Any]:
    """Two clients with everything to do from the start, one with three requests in four."""
    rng = np.random.default_rng(seed)
    return {
        "arrival_s": np.zeros(n),
        "prompt_tokens": rng.integers(10, 120, n),
        "output_tokens": rng.integers(5, 120, n),
        "client": (rng.random(n) < 0.25).astype(int),
        "max_batch": 8,
        "token_budget": 512,
        "log_iterations": 100_000,
    }


@pytest.mark.parametrize("seed", range(3))
def test_vtc_bounds_the_gap_between_clients_and_fcfs_does_not(seed: int) -> None:
    """Sheng et al., OSDI 2024: at most 2 max(w_p L_input, w_q M) while both have requests waiting.

    M: tokens that the batch can hold, here 8 requests of at most 240.
    """
    asked = backlogged(seed=seed)
    bound = 2.0 * max(PROMPT_COST * 120, OUTPUT_COST * 8 * 240)
    client = asked["client"]
    for scheduler, kept in (("vtc", True), ("vllm", False)):
        found = replay.llm_replica(**asked, scheduler=scheduler)
        # until the first client has nothing waiting any more
        both = min(found.first_scheduled_s[client == k].max() for k in (0, 1))
        given = service(found, asked)[found.log.end_s <= both]
        gap = given[:, 0] - given[:, 1]
        assert (gap.max() - gap.min() <= bound) == kept
        assert (abs(gap[-1]) > 0.4 * given[-1].sum()) != kept


def test_vtc_counts_what_it_served() -> None:
    asked = backlogged(n=60)
    found = replay.llm_replica(**asked, scheduler="vtc")
    np.testing.assert_allclose(found.client_service, service(found, asked)[-1])


def test_vtc_lifts_a_client_that_comes_back() -> None:
    """A client that was away has no credit: it takes turns, not everything."""
    n = 40
    work = {
        "prompt_tokens": np.full(2 * n, 50), "output_tokens": np.full(2 * n, 20),
        "client": np.repeat([0, 1], n), "scheduler": "vtc", "max_batch": 2,
    }  # fmt: skip
    arrival = np.concatenate([np.zeros(n), np.full(n, 2.0)])
    found = replay.llm_replica(arrival, **work)
    order = np.argsort(found.first_scheduled_s, kind="stable")
    later = [q for q in order if found.first_scheduled_s[q] > 2.0 and q < n]
    window = order[list(order).index(later[0]) :][:20]
    assert 8 <= sum(q < n for q in window) <= 12
