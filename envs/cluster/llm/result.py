"""What a replica replay returns.

Shapes: N requests, I iterations logged.  Units: seconds, tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.llm.calibration import Profile


@dataclass(frozen=True)
class Iterations:
    """The first iterations of a replay."""

    start_s: NDArray[np.float64]
    """Shape: (I,), as all but the last two."""
    end_s: NDArray[np.float64]
    chunks: NDArray[np.int64]
    """Prompts that were worked on."""
    chunk_tokens: NDArray[np.int64]
    decodes: NDArray[np.int64]
    tokens: NDArray[np.int64]
    """Of chunks and decodes."""
    context: NDArray[np.int64]
    """Sum over the decodes of tokens done before."""
    members: list[list[int]]
    """Requests of each batch, in its order."""
    member_tokens: list[list[int]]


@dataclass(frozen=True)
class LlmReplay:
    """Outcome of a replica replay; times are absolute, NaN where it never came to it."""

    first_scheduled_s: NDArray[np.float64]
    """Shape: (N,)"""
    first_token_s: NDArray[np.float64]
    """Shape: (N,)"""
    completed_s: NDArray[np.float64]
    """Shape: (N,)"""
    restarts: NDArray[np.int64]
    """Times a request lost its memory and was computed again. Shape: (N,)"""
    max_tbt_s: NDArray[np.float64]
    """Longest time between two output tokens; NaN with one token. Shape: (N,)"""
    rejected: NDArray[np.bool_]
    """Longer than `max_tokens`, or than memory or scheduler could ever take. Shape: (N,)"""
    iterations: int
    makespan_s: float
    """When the last iteration ended; NaN if there was none."""
    peak_blocks: int
    """Most blocks held at a time."""
    client_service: NDArray[np.float64]
    """VTC: counter of each client, lifts included. Shape: (clients,)"""
    log: Iterations
    profile: Profile
    """What the times rest on."""


def report(r: Any, tables: dict[str, NDArray[Any]], known: Profile) -> LlmReplay:
    """Read the result off the tables."""
    req = tables["req"]
    if r["done"] + r["rejected"] != len(req) or r["free"] != r["num_blocks"]:
        raise RuntimeError("the engine lost a request or a block")
    return LlmReplay(
        first_scheduled_s=req["first_scheduled"].copy(),
        first_token_s=req["first_token"].copy(),
        completed_s=req["completed"].copy(),
        restarts=req["restarts"].astype(np.int64),
        max_tbt_s=np.where(req["max_gap"] < 0.0, np.nan, req["max_gap"]),
        rejected=req["rejected"].astype(bool),
        iterations=int(r["iterations"]),
        makespan_s=float(r["now"]) if r["iterations"] else math.nan,
        peak_blocks=int(r["num_blocks"] - r["least_free"]),
        client_service=tables["queue"]["service"].copy(),
        log=_log(r, tables),
        profile=known,
    )


def _log(r: Any, tables: dict[str, NDArray[Any]]) -> Iterations:
    log = tables["log"][: int(r["logged"])]
    cuts = log["first"][1:]
    used = tables["log_member"][: int(r["log_members"])]
    parts = np.split(used, cuts) if len(log) else []
    return Iterations(
        start_s=log["start"].copy(),
        end_s=log["end"].copy(),
        chunks=log["chunks"].copy(),
        chunk_tokens=log["chunk_tokens"].copy(),
        decodes=log["decodes"].copy(),
        tokens=log["tokens"].copy(),
        context=log["context"].copy(),
        members=[part["q"].tolist() for part in parts],
        member_tokens=[part["tokens"].tolist() for part in parts],
    )
