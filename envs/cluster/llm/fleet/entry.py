"""Serve one trace on many LLM replicas: build the tables, run the engine, read the result.

Shapes: N requests, F functions, R replicas, D devices.  Units: seconds, tokens, blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.llm.calibration import GIB
from stoker.envs.cluster.llm.fleet import engine
from stoker.envs.cluster.llm.fleet.result import LlmFleetReplay, report
from stoker.envs.cluster.llm.fleet.spec import LlmFunction, ReplicaLoss
from stoker.envs.cluster.llm.fleet.tables import (
    DEVICE,
    DOWN,
    FLEET,
    FREENESS,
    FUNC,
    IDLE,
    LEAST_OUTSTANDING,
    LOADING,
    LOSS,
    REPLICA,
    ROUND_ROBIN,
    ROUTE,
)
from stoker.envs.cluster.llm.replica import MOST, enter, fill, queues_of
from stoker.envs.cluster.llm.requests import Requests, counts, read
from stoker.envs.cluster.llm.tables import MEMBER, NONE, PLACE, QUEUE, REQ, ROW
from stoker.envs.cluster.tables import F8

ROUTERS = {
    "round_robin": ROUND_ROBIN, "least_outstanding": LEAST_OUTSTANDING, "freeness": FREENESS,
}  # fmt: skip
WHEN_FULL = ("wait", "move_tokens")
STATES = {"up": IDLE, "cold": LOADING, "on_arrival": DOWN}


def llm_fleet(
    arrival_s: ArrayLike,
    prompt_tokens: ArrayLike,
    output_tokens: ArrayLike,
    functions: LlmFunction | Sequence[LlmFunction],
    function: ArrayLike | None = None,
    router: str = "round_robin",
    memory_fraction: float = 0.9,
    client: ArrayLike | None = None,
    losses: Sequence[ReplicaLoss] = (),
    when_full: str = "wait",
) -> LlmFleetReplay:
    """Serve requests on the replicas of one or several functions.

    Args:
        arrival_s: ascending arrival times. Shape: (N,)
        prompt_tokens: at least 1. Shape: (N,)
        output_tokens: at least 1; the first comes with the end of the prompt. Shape: (N,)
        functions: what is served, and by how many replicas.
        function: index of the function a request calls; None = the first. Shape: (N,)
        router: round_robin | least_outstanding | freeness.
        memory_fraction: of a shared device's memory that weights and blocks may take.
        client: who sent a request, 0 or more; of use to vtc. Shape: (N,)
        losses: replicas that are lost and repaired; those of one replica do not overlap.
        when_full: what a replica does that finds no memory on a shared device: wait, or move_tokens
            (one of those there hands its requests to another of its function and leaves).

    Raises:
        SpecError: a bad value, with its field and the accepted range. A request that is too long is
            no error but counted in `rejected`.
    """
    known = (functions,) if isinstance(functions, LlmFunction) else tuple(functions)
    require(len(known) > 0, "functions", known, "at least one")
    requests = read(arrival_s, prompt_tokens, output_tokens, client)
    n = len(requests.arrival_s)
    calls = np.zeros(n) if function is None else counts("function", function, n, 0, len(known) - 1)
    require(router in ROUTERS, "router", router, " | ".join(ROUTERS))
    require(0.0 < memory_fraction <= 1.0, "memory_fraction", memory_fraction, "> 0, <= 1")
    for i, fn in enumerate(known):
        clash = router == "freeness" and fn.scheduler == "fastserve"
        accepted = "one that starts no request without its blocks: freeness counts free blocks"
        require(not clash, f"functions[{i}].scheduler", fn.scheduler, accepted)
        # Whatever moves is a prompt again, with all that it has put out.
        fits = fn.scheduler != "vllm" or fn.token_budget >= fn.max_tokens
        accepted = f">= {fn.max_tokens}, max_tokens, for vllm with move_tokens"
        require(fits or when_full == "wait", f"functions[{i}].token_budget", fn.token_budget,
                accepted)  # fmt: skip
    require(when_full in WHEN_FULL, "when_full", when_full, " | ".join(WHEN_FULL))
    shared = any(fn.devices is not None for fn in known)
    require(shared or when_full == "wait", "when_full", when_full, "wait, without `devices`")
    tables = _tables(known, requests, calls)
    _lose(tables, known, losses)
    _share(tables, known, memory_fraction)
    fleet = _fleet(tables, ROUTERS[router])
    fleet["moves_tokens"] = when_full == "move_tokens"
    engine.serve_fleets(fleet)
    return report(fleet[0], tables, known)


def _tables(
    known: Sequence[LlmFunction], requests: Requests, calls: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Make the tables; they must outlive the run."""
    n, count = len(requests.arrival_s), sum(fn.sites for fn in known)
    tables: dict[str, NDArray[Any]] = {
        "rows": np.zeros(count, ROW), "replica": np.zeros(count, REPLICA),
        "next_s": np.full(count + len(known) + 1, np.inf).view(F8),
        "func": np.zeros(len(known), FUNC),
        "req": np.zeros(n, REQ), "route": np.zeros(n, ROUTE),
    }  # fmt: skip
    fill(tables["req"], requests)
    tables["route"]["function"], tables["route"]["replica"] = calls, NONE
    tables["route"]["decoder"] = NONE
    first = 0
    for i, fn in enumerate(known):
        here = slice(first, first + fn.sites)
        _enter_rows(tables, here, fn, requests, i)
        _enter_replicas(tables, here, fn, i)
        scale_at = MOST if fn.scale_at is None else fn.scale_at
        here_fn = tables["func"][i : i + 1]
        here_fn["first"], here_fn["count"], here_fn["scale_at"] = first, fn.replicas, scale_at
        here_fn["decoders"], here_fn["token_s"] = fn.decode_replicas, fn.kv_token_s
        here_fn["on_arrival"] = fn.start == "on_arrival"
        for name in ("ready", "ready_tail", "sent", "sent_tail"):
            here_fn[name] = NONE
        if fn.migrate_every_s is not None:
            here_fn["every_s"], here_fn["below"] = fn.migrate_every_s, fn.migrate_below
        first += fn.sites
    return tables


def _enter_rows(
    tables: dict[str, NDArray[Any]], here: slice, fn: LlmFunction, requests: Requests, i: int
) -> None:
    """The replica engine's rows of one function, with queues, running list and batch of each."""
    rows = tables["rows"][here]
    blocks = fn.num_blocks if fn.devices is None else fn.least_blocks
    enter(
        rows, fn.known, fn.scheduler, fn.token_budget, blocks, fn.block_size, fn.max_batch,
        fn.max_tokens, fn.watermark, fn.form, fn.t_cpu_s, fn.preset,
    )  # fmt: skip
    rows["req"] = tables["req"].ctypes.data
    places = min(len(requests.arrival_s), fn.max_batch)
    shapes = {
        "queue": (queues_of(fn.scheduler, requests), QUEUE),
        "run": (places, PLACE), "batch": (places, MEMBER),
    }  # fmt: skip
    for name, (size, dtype) in shapes.items():
        part = tables[f"{name}{i}"] = np.zeros((fn.sites, size), dtype)
        rows[name] = part.ctypes.data + np.arange(fn.sites) * part.strides[0]
    rows["queues"] = shapes["queue"][0]


def _enter_replicas(tables: dict[str, NDArray[Any]], here: slice, fn: LlmFunction, i: int) -> None:
    """What the fleet keeps of each replica of one function."""
    p, figures = tables["replica"][here], fn.known.figures
    p["function"], p["gpus"], p["state"] = i, figures["tp"], STATES[fn.start]
    for name in ("inbox", "inbox_tail", "landed", "landed_tail", "behind", "goes_to"):
        p[name] = NONE
    p["device"] = NONE if fn.devices is None else fn.devices
    # One that is up from the beginning loads only if it had to leave a shared device.
    p["load_s"] = 0.0 if fn.start == "up" and fn.devices is None else fn.loading_s
    p["keep_s"], p["margin"] = fn.keep_alive_s, fn.watermark
    p["weight_bytes"], p["least_blocks"] = figures["weight_bytes"], fn.least_blocks
    p["block_bytes"] = figures["kv_token_bytes"] * fn.block_size
    if fn.start == "cold":
        tables["next_s"]["v"][here], p["cold_starts"] = p["load_s"], 1


def _lose(
    tables: dict[str, NDArray[Any]], known: Sequence[LlmFunction], losses: Sequence[ReplicaLoss]
) -> None:
    """Enter what is lost and repaired, in order of time."""
    p, changes = tables["replica"], []
    until_s = np.zeros(len(p))
    for loss in sorted(losses, key=lambda loss: loss.t_s):
        k = loss.replica
        require(k < len(p), "loss.replica", k, f"0 .. {len(p) - 1}")
        fn = known[p["function"][k]]
        accepted = "no shared devices where replicas are lost"
        require(fn.devices is None, "devices", fn.devices, accepted)
        accepted = f">= {until_s[k]:g}: replica {k} is lost until then"
        require(loss.t_s >= until_s[k], "loss.t_s", loss.t_s, accepted)
        until_s[k] = loss.t_s + loss.away_s
        changes.append((loss.t_s, k, 0))
        if math.isfinite(until_s[k]):
            changes.append((until_s[k], k, 1))
            p["load_s"][k] = fn.loading_s
    tables["loss"] = np.array(sorted(changes, key=lambda change: change[0]), LOSS)


def _share(tables: dict[str, NDArray[Any]], known: Sequence[LlmFunction], fraction: float) -> None:
    """The devices that replicas share, of the GPUs of those on them."""
    p = tables["replica"]
    devices = tables["device"] = np.zeros(int(p["device"].max()) + 1, DEVICE)
    devices["holder"], devices["head"], devices["tail"] = NONE, NONE, NONE
    for d in range(len(devices)):
        on = np.flatnonzero(p["device"] == d)
        require(len(on) > 0, "devices", d, "numbers from 0 on, each with a replica")
        kinds = {(known[i].known.figures["gpu"], known[i].known.figures["tp"])
                 for i in p["function"][on]}  # fmt: skip
        accepted = "one class of GPU and one tensor parallel degree"
        require(len(kinds) == 1, f"devices: what is on {d}", sorted(kinds), accepted)
        gib = known[p["function"][on[0]]].known.figures["gpu_gib"]
        budget = devices["budget"][d] = np.floor(fraction * gib * GIB)
        least = p["weight_bytes"] + p["least_blocks"] * p["block_bytes"]
        fixed = float(least[on][p["state"][on] != DOWN].sum())
        accepted = f"at most {budget / GIB:.2f}: weights and blocks for one request of each"
        require(fixed <= budget, f"devices: GiB a GPU on {d}", round(fixed / GIB, 2), accepted)
        require(bool((least[on] <= budget).all()), f"devices: GiB a GPU of a replica on {d}",
                round(float(least[on].max()) / GIB, 2), accepted)  # fmt: skip


def _fleet(tables: dict[str, NDArray[Any]], router: int) -> NDArray[Any]:
    """The fleet's record."""
    fleet = np.zeros(1, FLEET)
    for name in ("rows", "replica", "next_s", "func", "device", "req", "route", "loss"):
        fleet[name] = tables[name].ctypes.data
    fleet["reqs"], fleet["replicas"] = len(tables["req"]), len(tables["replica"])
    func = tables["func"]
    fleet["functions"] = len(func)
    moves = bool((func["decoders"] > 0).any() or (func["every_s"] > 0.0).any())
    fleet["losses"], fleet["astray"] = len(tables["loss"]), NONE
    lost = len(tables["loss"]) > 0
    fleet["slots"] = fleet["replicas"] + (moves or lost) * len(func) + lost
    fleet["counts_demand"] = router == FREENESS or (func["every_s"] > 0.0).any()
    fleet["devices"], fleet["router"] = len(tables["device"]), router
    return fleet
