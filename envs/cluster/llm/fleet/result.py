"""What a fleet replay returns.

Shapes: N requests, F functions, R replicas, D shared devices.
Units: seconds, blocks, GiB of one GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.llm.calibration import GIB, Profile
from stoker.envs.cluster.llm.fleet.spec import LlmFunction
from stoker.envs.cluster.llm.fleet.tables import DOWN, LOADING, LOST, WANTED

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LlmFleetReplay:
    """Outcome of a fleet replay; times are absolute, NaN where it never came to it."""

    first_scheduled_s: Floats
    """Shape: (N,)"""
    first_token_s: Floats
    """Shape: (N,)"""
    completed_s: Floats
    """Shape: (N,)"""
    restarts: Ints
    """Times a request lost its memory and was computed again. Shape: (N,)"""
    max_tbt_s: Floats
    """Longest time between two output tokens; NaN with one token. Shape: (N,)"""
    rejected: NDArray[np.bool_]
    """Too long for its function: refused at once, or when it would begin again. Shape: (N,)"""
    failed: NDArray[np.bool_]
    """It found every replica lost, or lost the last one. Shape: (N,)"""
    replica: Ints
    """Where it was served, or its prompt; those of the first function come first;
    -1 if it was refused while none was up, or failed. Shape: (N,)"""
    decoder: Ints
    """Where it decoded last, if it was sent there; else -1. Shape: (N,)"""
    cold: NDArray[np.bool_]
    """Its replica was not up when it was handed to it. Shape: (N,)"""
    iterations: Ints
    """Shape: (R,)"""
    peak_blocks: Ints
    """Most blocks held at a time. Shape: (R,)"""
    num_blocks: Ints
    """Blocks granted, at the end. Shape: (R,)"""
    cold_starts: Ints
    """Shape: (R,)"""
    gpu_up_s: Floats
    """GPU-seconds that weights were there or loading, until the end. Shape: (R,)"""
    gpu_loading_s: Floats
    """Those spent loading. Shape: (R,)"""
    gpu_busy_s: Floats
    """Those with a batch on. Shape: (R,)"""
    evictions: Ints
    """Idle replicas that left a shared device to make room. Shape: (D,)"""
    refusals: Ints
    """Starts that had to wait for memory. Shape: (D,)"""
    peak_gib: Floats
    """Most memory granted at a time, weights and blocks. Shape: (D,)"""
    transfers: Ints
    """Requests sent from prompt to decode. Shape: (F,)"""
    migrations: Ints
    """Requests that went to another replica while they ran. Shape: (F,)"""
    migrations_given_up: Ints
    """Shape: (F,)"""
    token_migrations: Ints
    """Requests that left a shared device as tokens to make room. Shape: (F,)"""
    makespan_s: float
    """When the last request was done; NaN without any."""
    profiles: tuple[Profile, ...]
    """What the times of each function rest on."""


def report(f: Any, tables: dict[str, NDArray[Any]], known: Sequence[LlmFunction]) -> LlmFleetReplay:
    """Read the result off the tables."""
    req, rows, p, device = (tables[k] for k in ("req", "rows", "replica", "device"))
    if f["open"] != 0 or f["next_req"] != len(req) or (rows["free"] != rows["num_blocks"]).any():
        raise RuntimeError("the engine lost a request or a block")
    up = ~np.isin(p["state"], (LOST, DOWN, WANTED))
    since_s = f["now"] - p["since"]
    loading_s = p["loading_s"] + np.where(p["state"] == LOADING, since_s, 0.0)
    return LlmFleetReplay(
        first_scheduled_s=req["first_scheduled"].copy(),
        first_token_s=req["first_token"].copy(),
        completed_s=req["completed"].copy(),
        restarts=req["restarts"].astype(np.int64),
        max_tbt_s=np.where(req["max_gap"] < 0.0, np.nan, req["max_gap"]),
        rejected=req["rejected"].astype(bool),
        failed=tables["route"]["failed"].astype(bool),
        replica=tables["route"]["replica"].astype(np.int64),
        decoder=tables["route"]["decoder"].astype(np.int64),
        cold=tables["route"]["cold"].astype(bool),
        iterations=rows["iterations"].copy(),
        peak_blocks=np.maximum(p["peak_blocks"], rows["num_blocks"] - rows["least_free"]),
        num_blocks=rows["num_blocks"].copy(),
        cold_starts=p["cold_starts"].copy(),
        gpu_up_s=(p["up_s"] + np.where(up, since_s, 0.0)) * p["gpus"],
        gpu_loading_s=loading_s * p["gpus"],
        gpu_busy_s=p["busy_s"] * p["gpus"],
        evictions=device["evictions"].copy(),
        refusals=device["refusals"].copy(),
        peak_gib=device["most"] / GIB,
        transfers=tables["func"]["transfers"].copy(),
        migrations=tables["func"]["migrations"].copy(),
        migrations_given_up=tables["func"]["aborted"].copy(),
        token_migrations=tables["func"]["moved"].copy(),
        makespan_s=float(f["now"]) if rows["iterations"].any() else math.nan,
        profiles=tuple(fn.known for fn in known),
    )
