"""What a policy sees (`Snapshot`) and what it says (`Decision`), and the one function between.

Shapes: B rows (independent clusters; the runtime has B = 1), F functions, G GPUs, C classes of GPU.
Units: seconds, GiB.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.targets import Targets

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
AS_ORDERED = 3
"""The `variant` whose keep-alive and prewarm a Decision sets, not the plan."""


@dataclass
class Decision:
    """The standing orders of one policy, a value for every row and function.

    A field left None keeps what stands (initially: keep for ever, no host tier, no prewarm,
    batches up to the function's own limit).
    """

    keep_alive_s: Floats | None = None
    """An idle instance stays on the device while its idle age is below this. Shape: (B, F)"""
    host_keep_alive_s: Floats | None = None
    """Then its weights stay in pinned host memory this long. Shape: (B, F)"""
    runtime_keep_alive_s: Floats | None = None
    """Its process, without weights, stays parked this long after it has left the device, for a
    start of the same runtime (initially 0: not at all). Shape: (B, F)"""
    sandbox_keep_alive_s: Floats | None = None
    """...then its empty sandbox this long, for any start on the node. Shape: (B, F)"""
    prewarm: Ints | None = None
    """Floor on instances (ready or loading) from now on. Shape: (B, F)"""
    prewarm_host: Ints | None = None
    """1 = fetch a host copy now; once there it stays for `host_keep_alive_s`. Shape: (B, F)"""
    prewarm_after_s: Floats | None = None
    """One-shot: load again this long after the last completion; inf = never. Shape: (B, F)"""
    prewarm_keep_s: Floats | None = None
    """...and keep that instance this long. Shape: (B, F)"""
    eviction_score: Floats | None = None
    """Under rule `score` the lowest goes first. Shape: (B, F)"""
    host_eviction_score: Floats | None = None
    """Likewise of the copies in host memory, under rule host_eviction=score. Shape: (B, F)"""
    min_batch: Ints | None = None
    """Start a batch at this many requests... Shape: (B, F)"""
    batch_wait_s: Floats | None = None
    """...or when the head has waited this long. Shape: (B, F)"""
    max_batch: Ints | None = None
    """Take at most this many. Shape: (B, F)"""
    max_instances: Ints | None = None
    """Scale-out limit. Shape: (B, F)"""
    drop_head: Ints | None = None
    """1 = refuse the head of the queue now. Shape: (B, F)"""
    token_budget: Ints | None = None
    """Tokens of an iteration of an LLM function that computes prompts in chunks (scheduler
    `sarathi`), from the next iteration on; 0 = whole prompts first and alone. Nothing to functions
    that are no LLMs; on an LLM of another scheduler it counts as a clip. Shape: (B, F)"""
    gpu_class: Ints | None = None
    """New instances go to GPUs of this class alone (Cluster.kinds); -1 = any. A class that cannot
    hold the function counts as a clip and as any. Shape: (B, F)"""
    variant: Ints | None = None
    """Under rule plan=hazard: 0 = the plan sets keep-alive and prewarm whenever the function
    becomes idle, 1 = without prewarm, 2 = with eager prewarm; 3 = this Decision sets them.
    Shape: (B, F)"""
    multiplier: Floats | None = None
    """On the hazard index, and on what a cold start costs in the plan. Shape: (B, F)"""
    targets: Targets | None = None
    """Floors, limits and shares by GPU or class, in place of all that stood; see Targets."""
    nodes_wanted: Ints | None = None
    """Of the nodes of each class (that of their first GPU) so many are up, those of lowest number;
    the others drain and go off, if that leaves functions without a place, too: their requests
    wait. Shape: (B, C)"""


LEAST_TOKENS, MOST_TOKENS = 16, 2**16
"""Range of a token budget that is not 0."""
PER_FUNCTION = tuple(f.name for f in fields(Decision) if f.name not in ("targets", "nodes_wanted"))
"""The orders of shape (B, F)."""


@dataclass(frozen=True)
class IdlePlan:
    """What an event policy says of N functions that have just become idle."""

    mix: Floats
    """Weights of the gap experts, each row sums to 1. Shape: (N, E)"""
    multiplier: Floats
    """On the hazard index. Shape: (N,)"""
    variant: NDArray[np.int64]
    """0 = plan as the heuristic, 1 = no prewarm, 2 = eager prewarm. Shape: (N,)"""

    @property
    def columns(self) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """As compiled code takes them."""
        return (
            np.ascontiguousarray(self.mix, np.float64),
            np.ascontiguousarray(self.multiplier, np.float64),
            np.ascontiguousarray(self.variant, np.int64),
        )


@dataclass(frozen=True)
class Snapshot:
    """What a policy sees at one instant; arrays may be views, valid until the next step.

    `now_s` is the clock, and figures are `age_s` old: 0, unless telemetry is late (faults.py).
    """

    now_s: Floats
    """Shape: (B,)"""
    age_s: Floats
    """Shape: (B,)"""
    idle: Ints
    """Idle instances. Shape: (B, F)"""
    busy: Ints
    """Instances with work in flight. Shape: (B, F)"""
    loading: Ints
    """Instances starting up. Shape: (B, F)"""
    on_host: Ints
    """1 = weights in pinned host memory. Shape: (B, F)"""
    queued: Ints
    """Requests waiting. Shape: (B, F)"""
    arrivals: NDArray[np.int64]
    """Requests so far. Shape: (B, F)"""
    last_arrival_s: Floats
    """-inf before the first. Shape: (B, F)"""
    last_idle_s: Floats
    """When the function last became idle; -inf before. Shape: (B, F)"""
    rate_hz: Floats
    """Exponentially weighted arrival rates at 10 s, 60 s, 600 s, 3600 s. Shape: (B, F, 4)"""
    gap_histogram: NDArray[np.float32]
    """Decayed histogram of idle gaps, log bins (see features.py). Shape: (B, F, 72)"""
    free_gib: Floats
    """Free device memory; 0 on nodes that are not up. Shape: (B, G)"""
    host_free_gib: Floats
    """Shape: (B,)"""
    loads_in_progress: Ints
    """Shape: (B,)"""
    memory_price: Floats
    """Online price of device memory, s/(GiB s). Shape: (B,)"""
    nodes_up: Ints
    """Nodes of each class that take instances. Shape: (B, C)"""
    observation: NDArray[np.float32]
    """What the cluster view of the environments shows (see observe_all.py), for a policy that
    `observes`; X = 0 for the others. Shape: (B, X)"""


@dataclass(frozen=True)
class Capabilities:
    """What a backend can carry out."""

    host_tier: bool = True
    prewarm: bool = True
    live_batch: bool = True
    layers: bool = True
    """Parked processes and sandboxes."""
    targets: bool = True
    capacity: bool = True
    """Whether nodes can be brought up and taken down."""
    max_instances: int = 2**31 - 1
    """Most instances of one function that the backend can hold."""


_FLOOR = {
    "keep_alive_s": 0.0,
    "host_keep_alive_s": 0.0,
    "runtime_keep_alive_s": 0.0,
    "sandbox_keep_alive_s": 0.0,
    "prewarm": 0,
    "prewarm_host": 0,
    "prewarm_after_s": 0.0,
    "prewarm_keep_s": 0.0,
    "min_batch": 1,
    "batch_wait_s": 0.0,
    "max_batch": 1,
    "max_instances": 0,
    "drop_head": 0,
    "token_budget": 0,
    "gpu_class": -1,
    "variant": 0,
    "multiplier": 1e-6,
}
_SAFE = {"prewarm_after_s": np.inf, "token_budget": 512, "multiplier": 1.0}
_SCORES = ("eviction_score", "host_eviction_score")


def legalize(
    decision: Decision,
    capabilities: Capabilities,
    max_batch: Ints,
) -> tuple[Decision, NDArray[np.int64]]:
    """Clip a decision to the nearest that the backend can carry out, and count the clips.

    NaN becomes the field's harmless value (keep nothing, load nothing); infinities are orders.
    `targets` and `nodes_wanted` are left to `legalize_targets` and `legalize_nodes`, which need to
    know the cluster.

    Args:
        decision: fields of shape (B, F).
        capabilities: of the backend.
        max_batch: largest batch of each function. Shape: (F,)

    Returns:
        The legal decision and how many of its values were changed. Shape: (B, F)
    """
    clipped = np.zeros(np.shape(max_batch), np.int64)
    legal = Decision(targets=decision.targets, nodes_wanted=decision.nodes_wanted)
    ceilings: dict[str, Any] = {
        "max_batch": max_batch,
        "min_batch": max_batch,
        "prewarm": capabilities.max_instances if capabilities.prewarm else 0,
        "prewarm_host": int(capabilities.host_tier),
        "max_instances": capabilities.max_instances,
        "drop_head": 1,
        "token_budget": MOST_TOKENS,
        "host_keep_alive_s": np.inf if capabilities.host_tier else 0.0,
        "runtime_keep_alive_s": np.inf if capabilities.layers else 0.0,
        "sandbox_keep_alive_s": np.inf if capabilities.layers else 0.0,
        "prewarm_after_s": np.inf,
        "variant": AS_ORDERED,
        "multiplier": 1e6,
    }
    for name in PER_FUNCTION:
        asked = getattr(decision, name)
        if asked is None:
            continue
        asked = np.asarray(asked)
        safe = np.where(np.isnan(asked), _SAFE.get(name, _FLOOR.get(name, 0.0)), asked)
        if name not in _SCORES:
            safe = np.clip(safe, _FLOOR[name], ceilings.get(name, np.inf))
        if name == "prewarm_after_s" and not capabilities.prewarm:
            safe = np.full_like(safe, np.inf)
        if name == "token_budget":
            safe = np.where((safe > 0) & (safe < LEAST_TOKENS), LEAST_TOKENS, safe)
        clipped = clipped + (safe != asked)
        setattr(legal, name, safe)
    return legal, clipped


def legalize_nodes(
    wanted: Ints | None, present: Ints, possible: bool
) -> tuple[Ints | None, NDArray[np.int64]]:
    """Clip `nodes_wanted` to 0 .. the nodes there are, and count; NaN becomes all of them.

    Args:
        wanted: what a Decision says, or None. Shape: (B, C)
        present: nodes of each class. Shape: (B, C)
        possible: whether the backend can bring nodes up and down; if not, all stay up.

    Returns:
        What is legal (None = what stands stays), and clips a cluster. Shape: (B, C), (B,)

    Raises:
        SpecError: `wanted` has another shape.
    """
    if wanted is None:
        return None, np.zeros(len(present), np.int64)
    asked = np.asarray(wanted)
    require(asked.shape == present.shape, "nodes_wanted", asked.shape, f"shape {present.shape}")
    known = np.where(np.isnan(asked), present, asked)
    legal = np.clip(np.floor(known), 0, present) if possible else present
    clipped = ((legal != asked) & (present > 0)).sum(axis=1)
    return legal.astype(np.int32) if possible else None, clipped
