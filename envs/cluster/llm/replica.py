"""Serve one trace on one LLM replica: build the tables, run the engine, read the result.

Shapes: N requests.  Units: seconds, tokens, blocks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.llm import engine
from stoker.envs.cluster.llm.calibration import Profile
from stoker.envs.cluster.llm.calibration import profile as profile_of
from stoker.envs.cluster.llm.presets import preset as habits_of
from stoker.envs.cluster.llm.requests import Requests, read
from stoker.envs.cluster.llm.result import LlmReplay, report
from stoker.envs.cluster.llm.tables import (
    FASTSERVE,
    LEVELS,
    LOG,
    MEMBER,
    NONE,
    ORCA,
    PLACE,
    QUEUE,
    REQ,
    REQUEST_LEVEL,
    ROW,
    SARATHI,
    VLLM,
    VTC,
)

SCHEDULERS = {
    "sarathi": SARATHI, "vllm": VLLM, "orca": ORCA, "request_level": REQUEST_LEVEL,
    "fastserve": FASTSERVE, "vtc": VTC,
}  # fmt: skip
RESERVING = ("orca", "request_level")
MOST = 2**30
QUANTUM_S, PATIENCE_S = 0.010, 3.0
"""FastServe: quantum of the first level, wait after which a request goes back to it."""
PROMPT_COST, OUTPUT_COST = 1.0, 2.0
"""VTC: service of a prompt token and of an output token."""


def llm_replica(
    arrival_s: ArrayLike,
    prompt_tokens: ArrayLike,
    output_tokens: ArrayLike,
    profile: str = "meta-llama/Meta-Llama-3-8B|a100|tp1",
    scheduler: str = "sarathi",
    token_budget: int = 512,
    num_blocks: int = 30208,
    block_size: int = 16,
    max_batch: int = 128,
    max_tokens: int = 4096,
    watermark: float = 0.01,
    form: str = "roofline",
    t_cpu_s: float | str = 0.0,
    preset: str = "vidur",
    client: ArrayLike | None = None,
    log_iterations: int = 0,
) -> LlmReplay:
    """Serve requests on one replica, every iteration of it.

    Args:
        arrival_s: ascending arrival times. Shape: (N,)
        prompt_tokens: at least 1. Shape: (N,)
        output_tokens: at least 1; the first comes with the end of the prompt. Shape: (N,)
        profile: name of a calibration profile.
        scheduler: sarathi | vllm | orca | request_level | fastserve | vtc.
        token_budget: sarathi: tokens an iteration. vllm: limit of a prompt batch, padded under
            preset `vidur`; a longer prompt is refused. fastserve, vtc: the same, but a longer
            prompt is taken alone. Not used by orca and request_level.
        num_blocks: blocks of key-value memory.
        block_size: tokens a block.
        max_batch: requests that run at a time.
        max_tokens: prompt and output of a request; orca and request_level reserve blocks for it.
        watermark: fraction of the blocks that an admission must leave free.
        form: roofline | pwl | table: how the time of the linear layers is given.
        t_cpu_s: host and launch time of an iteration, or the name of a preset: vidur | vllm2023.
        preset: vidur (its habits, see presets.py) | stoker.
        client: who sent a request, 0 or more; of use to vtc. Shape: (N,)
        log_iterations: keep this many iterations, which are then run one at a time.

    Raises:
        SpecError: a bad value, with its field and the accepted range. A request that is too long is
            no error but counted in `rejected`.
    """
    requests = read(arrival_s, prompt_tokens, output_tokens, client)
    known = profile_of(profile)
    row = np.zeros(1, ROW)
    enter(
        row, known, scheduler, token_budget, num_blocks, block_size, max_batch, max_tokens,
        watermark, form, t_cpu_s, preset,
    )  # fmt: skip
    row["log_cap"] = whole("log_iterations", log_iterations, 0)
    tables = _tables(row, requests, scheduler)
    engine.serve_rows(row)
    return report(row[0], tables, known)


def enter(
    row: NDArray[Any],
    known: Profile,
    scheduler: str,
    token_budget: int,
    num_blocks: int,
    block_size: int,
    max_batch: int,
    max_tokens: int,
    watermark: float,
    form: str,
    t_cpu_s: float | str,
    preset: str,
) -> None:
    """Check what was asked for, as `llm_replica` says, and enter it in the rows."""
    require(scheduler in SCHEDULERS, "scheduler", scheduler, " | ".join(SCHEDULERS))
    row["scheduler"] = SCHEDULERS[scheduler]
    row["budget"] = whole("token_budget", token_budget)
    row["num_blocks"] = row["free"] = row["least_free"] = whole("num_blocks", num_blocks)
    row["block_size"] = whole("block_size", block_size)
    row["max_batch"] = whole("max_batch", max_batch)
    row["max_tokens"] = whole("max_tokens", max_tokens, 2)
    require(0.0 <= watermark < 1.0, "watermark", watermark, "a fraction >= 0, < 1")
    row["watermark"] = int(watermark * num_blocks)
    for name, habit in vars(habits_of(preset)).items():
        row[name] = habit
    if scheduler in RESERVING:
        longest = -(-max_tokens // block_size)
        accepted = f">= {longest}, the blocks of max_tokens, which {scheduler} reserves"
        require(num_blocks >= longest, "num_blocks", num_blocks, accepted)
        row["reserve"] = longest
    _calibrate(row, known, form, _host_s(t_cpu_s, known))


def whole(name: str, value: int, least: int = 1) -> int:
    """Check an integer."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    require(whole and least <= value <= MOST, name, value, f"an integer >= {least}, <= {MOST:,}")
    return int(value)


def _host_s(t_cpu_s: float | str, known: Profile) -> float:
    if isinstance(t_cpu_s, str):
        return known.host_s(t_cpu_s)
    accepted = "seconds >= 0, or vidur | vllm2023"
    require(math.isfinite(t_cpu_s) and t_cpu_s >= 0.0, "t_cpu_s", t_cpu_s, accepted)
    return float(t_cpu_s)


def _calibrate(row: NDArray[Any], known: Profile, form: str, host_s: float) -> None:
    """Enter the coefficients, those of the profile in seconds, of all layers."""
    row["quantum"], row["patience"] = QUANTUM_S, PATIENCE_S
    row["prompt_cost"], row["output_cost"] = PROMPT_COST, OUTPUT_COST
    row["host_s"] = host_s
    row["token_s"] = known.token_ms(form) / 1e3
    row["beyond_s"] = known.beyond_ms / 1e3
    row["overhead"] = known.figures["batch_overhead"]
    row["p"] = np.array(known.figures["prefill_layer_ms"]) * known.layers / 1e3
    row["d"] = np.array(known.figures["decode_layer_ms"]) * known.layers / 1e3


def queues_of(scheduler: str, requests: Requests) -> int:
    """Queues that a scheduler keeps."""
    return {"fastserve": LEVELS, "vtc": requests.clients}.get(scheduler, 1)


def fill(req: NDArray[Any], requests: Requests) -> None:
    """Enter the requests."""
    req["arrival"], req["prompt"] = requests.arrival_s, requests.prompt_tokens
    req["total"] = requests.prompt_tokens + requests.output_tokens
    req["output"] = requests.output_tokens
    req["client"], req["next"], req["max_gap"] = requests.client, NONE, -1.0
    for name in ("last_token", "first_scheduled", "first_token", "completed"):
        req[name] = np.nan


def _tables(row: NDArray[Any], requests: Requests, scheduler: str) -> dict[str, NDArray[Any]]:
    """Make the tables of a row and point it at them; they must outlive the run."""
    n, logged = len(requests.arrival_s), int(row["log_cap"][0])
    queues = queues_of(scheduler, requests)
    places = min(n, int(row["max_batch"][0]))
    tables = {
        "req": np.zeros(n, REQ), "queue": np.zeros(queues, QUEUE), "run": np.zeros(n, PLACE),
        "batch": np.zeros(n, MEMBER), "log": np.empty(logged, LOG),
        "log_member": np.empty(logged * places, MEMBER),
    }  # fmt: skip
    fill(tables["req"], requests)
    for name, table in tables.items():
        row[name] = table.ctypes.data
    row["reqs"], row["queues"] = n, queues
    return tables
