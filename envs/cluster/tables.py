"""The tables of a row (row.py): functions, instances, GPUs, links, requests, events.

They are numpy record arrays of any length, reached from compiled code through `fn_at(r["fn"], f)`,
`inst_at(r["inst"], i)` and so on, which return a reference without copying. Sizes are data, not
types: one compilation serves every cluster.

Shapes: B rows, F functions, I instance slots, M nodes, G GPUs, C classes of GPU, L links (n = disk
of node n, M + g = PCIe of GPU g, M + G + n = NVLink of node n, 2 M + G + n = its network), stores
(n = host memory of node n, M + n = its disk), N requests.  Units: seconds, bytes.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LINE = 64
"""Bytes of a line of the cache."""
AGES = 72
"""Bins of a gap histogram."""
FEATURE_COUNT, SCALAR_COUNT = 73, 25
"""Columns of an observation (observe.py), and those before the histograms."""
EXPERTS = 6
"""Gap forecasts that the plan mixes."""
NONE = -1

FREE, STARTING, READY, FETCHING, SHARD, PARKED = 0, 1, 2, 3, 4, 5
"""States of an instance slot; FETCHING brings a host copy and holds no device memory, SHARD is a
further GPU of an instance that spans several (spans.py), PARKED a layer in host memory."""
PROCESSOR, LINEAR, EXCESS, BY_LOADS = 1, 2, 3, 4
"""How the batches of a GPU are slowed (slowing.py): by each other, or by loads alone; 0 = never."""
WHOLE = 2**30
"""Parts of a GPU that is shared in space."""
UP, DRAINING, OFF, BOOTING = 0, 1, 2, 3
"""States of a node (capacity.py)."""
ABSENT, THERE, COMING = 0, 1, 2
"""States of a copy in host memory or on a disk."""
WARM, COLD, DROPPED, HOST, FAILED, PEER, REMOTE, IN_FLIGHT = 0, 1, 2, 3, 4, 5, 6, 255
"""Outcome of a request: the tier that the instance serving it came from."""

FN = np.dtype(
    [
        # instances and queue
        ("n", "i8"), ("leaving", "i8"), ("idle", "i8"), ("busy", "i8"), ("loading", "i8"),
        ("inflight", "i8"), ("queued", "i8"), ("waiting", "i8"),
        ("open_head", "i8"), ("open_tail", "i8"), ("q_head", "i8"), ("q_tail", "i8"),
        ("concurrency", "i8"), ("max_batch", "i8"), ("min_batch", "i8"), ("max_instances", "i8"),
        ("keep_alive_s", "f8"), ("batch_wait_s", "f8"), ("freq", "f8"), ("prio", "f8"),
        ("cost", "f8"), ("cost_size", "f8"), ("overlap_s", "f8"), ("gpus", "i8"),
        # charged to this function since its last decision (reward of its row)
        ("held", "i8"), ("held_rent", "f8"), ("held_t", "f8"), ("held_price", "f8"),
        ("held_host", "i8"), ("acc_gib_s", "f8"), ("acc_host_gib_s", "f8"), ("acc_rent", "f8"),
        ("acc_shadow", "f8"), ("acc_wait_s", "f8"), ("acc_load_s", "f8"), ("acc_drops", "i8"),
        ("acc_requests", "i8"), ("acc_late", "i8"), ("decision", "i8"), ("slo_s", "f8"),
        # timers and orders
        ("batch_timer", "f8"), ("prewarm_timer", "f8"), ("order_timer", "f8"), ("batches", "i8"),
        ("service_s", "f8"), ("hosts", "i8"), ("next_waiting", "i8"), ("parked", "i8"),
        # what is known of its traffic (features.py), the forecasts that are mixed
        ("arrivals", "i8"), ("gaps", "i8"), ("last_arrival", "f8"), ("gap", "f8"),
        ("gap_bin", "i8"), ("prev_bin", "i8"), ("foreseen", "i8"), ("left_out", "i8"),
        ("rate", "f8", (4,)),
        ("slow_unit", "f8"), ("fast_unit", "f8"), ("slow_sum", "f8"), ("fast_sum", "f8"),
        ("slow", "f4", (AGES,)), ("fast", "f4", (AGES,)),
        ("mix", "f8", (EXPERTS,)), ("prewarm_after_s", "f8"), ("prewarm_keep_s", "f8"),
        # what an eviction reads of a function that may leave: index by age (rules/hazard.py)
        ("last_idle", "f8"), ("multiplier", "f8"), ("index_valid", "i8"), ("bytes", "i8"),
        ("shared", "i8"), ("gib", "f8"), ("load_disk_s", "f8"), ("variant", "i8"),
        ("index", "f4", (AGES,)), ("closing", "f4", (EXPERTS,)), ("eviction_score", "f8"),
        # what a start moves and holds
        ("family", "i8"), ("weights", "i8"), ("process_s", "f8"), ("fork_s", "f8"),
        ("warmup_s", "f8"), ("load_rate", "f8"), ("load_host_s", "f8"), ("load_remote_s", "f8"),
        # orders, timers and places in lists that few requests touch
        ("host_keep_alive_s", "f8"), ("gpu_class", "i8"), ("drop_head", "i8"), ("prewarm", "i8"),
        ("weighted", "i8"), ("placed", "i8"), ("target_n", "i8"), ("peers", "i8"),
        ("weights_gib", "f8"), ("batch_limit", "i8"), ("disk_bytes", "i8"), ("hostable", "i8"),
        ("compression", "f8"), ("prewarm_host", "i8"), ("host_eviction_score", "f8"),
        ("disks", "i8"),
        # its targets: where they stand, for host memory, shares of its requests (placed.py)
        ("target_first", "i8"), ("hosted", "i8"), ("turn", "f8"),
        # what an instance takes of a GPU's compute (gpulet.py), what its batches ask for
        ("part", "i8"), ("compute_util", "f8"), ("memory_util", "f8"),
        # parked layers and lending (layers.py, lending.py)
        ("runtime_s", "f8"), ("lent_s", "f8"), ("lend_after_s", "f8"), ("process_bytes", "i8"),
        ("sandbox_bytes", "i8"), ("image", "i4"), ("kin", "i4"), ("runtime_keep_alive_s", "f8"),
        ("sandbox_keep_alive_s", "f8"), ("held_parked", "i8"),
        # loads that have begun, where their times are noisy
        ("loads", "i8"),
        # batches decided from outside (batching.py): a decision is due, the last one's size,
        # waiting charged so far, time of the batches begun and of the last one, requests charged
        # as late that wait and that run
        ("asked", "i4"), ("ran", "i4"), ("charged_s", "f8"), ("begun_s", "f8"), ("ran_s", "f8"),
        ("overdue", "i8"), ("prepaid", "i8"),
        # its pattern among the replicas of LLMs, else NONE (llm_lanes.py)
        ("llm", "i8"),
        # tokens of its iterations (llm_budget.py)
        ("token_budget", "i8"),
    ],
    align=True,
)  # fmt: skip
"""What one request touches stands together and first, eight fields a line of the cache; the table
begins at a line, and so does every function in it."""
assert FN.itemsize % LINE == 0
INST = np.dtype(
    [
        ("fn", "i8"), ("node", "i8"), ("gpu", "i8"), ("state", "i8"), ("inflight", "i8"),
        ("prev", "i8"), ("next", "i8"), ("open", "i8"),
        ("shard", "i8"), ("pinned", "i8"), ("created", "i8"), ("freq", "f8"), ("last_start", "f8"),
        ("bound", "i8"), ("queued", "i8"), ("disk", "i8"),
        ("idle_since", "f8"), ("keep_until", "f8"), ("timer", "f8"), ("ready_t", "f8"),
        ("source", "i8"), ("phase", "i8"), ("link", "i8"), ("legs", "i8"),
        ("left", "f8"), ("rate", "f8"), ("now_rate", "f8"), ("through", "i8"),
        ("compression", "f8"), ("moves", "i8"), ("owner", "i8"), ("peer_prev", "i8"),
        ("peer_next", "i8"), ("ends", "f8"), ("noise", "f8"), ("lane", "i8"),
    ],
    align=True,
)  # fmt: skip
GPU = np.dtype(
    [
        ("node", "i8"), ("kind", "i8"), ("byte_rent", "f8"),
        ("cap", "i8"), ("used", "i8"), ("evictable", "i8"),
        ("busy", "i8"), ("loading", "i8"), ("resident", "i8"), ("exclusive", "i8"),
        ("running", "i8"), ("run_head", "i8"), ("run_tail", "i8"), ("listed", "i8"),
        ("last", "i8"), ("batch_beside_load", "f8"),
        ("t", "f8"), ("busy_s", "f8"), ("loading_s", "f8"), ("idle_s", "f8"), ("off_s", "f8"),
        ("byte_s", "f8"), ("peak", "i8"), ("pick", "i8"), ("closed", "i8"),
        # sharing in space, batches that slow each other (slowing.py)
        ("spatial", "i8"), ("slows", "i8"), ("coefficients", "f8", (5,)),
        ("slowed_head", "i8"), ("slowed_tail", "i8"), ("slowed_t", "f8"), ("slowed_stamp", "i8"),
        ("due", "i8"), ("load_beside_batch", "f8"),
    ],
    align=True,
)  # fmt: skip
GF = np.dtype([("key", "f8"), ("pos", "i8"), ("n", "i8"), ("idle", "i8")], align=True)
"""A function on a GPU: its place in the GPU's eviction order and how many instances it has."""
NODE = np.dtype(
    [
        ("pipelined", "i8"), ("host_cap", "i8"), ("host_used", "i8"), ("host_peak", "i8"),
        ("host_t", "f8"), ("host_byte_s", "f8"), ("host_clock", "f8"), ("demotion", "i8"),
        ("disk_cap", "i8"), ("disk_used", "i8"), ("disk_peak", "i8"), ("disk_loose", "i8"),
        ("kind", "i8"), ("rank", "i8"), ("boot_s", "f8"),
        ("wanted", "i8"), ("state", "i8"), ("stamp", "i8"), ("up_t", "f8"), ("up_s", "f8"),
        ("noticed", "i8"), ("lost", "i8"),
    ],
    align=True,
)  # fmt: skip
"""`disk_cap`: NONE = unlimited; `disk_loose`: bytes of the copies there that no load reads;
`noticed`, `lost`: preemptions announced, and losses that last (losses.py)."""
NF = np.dtype(
    [
        ("state", "i8"), ("busy", "i8"), ("since", "f8"), ("timer", "f8"), ("ready", "i8"),
        ("disk_s", "f8"), ("host_s", "f8"), ("peer_s", "f8"), ("remote_s", "f8"),
        ("stream_s", "f8"), ("disk", "i8"), ("disk_reads", "i8"), ("uses", "f8"),
    ],
    align=True,
)  # fmt: skip
"""A function on a node: its host copy (ABSENT, THERE or COMING; loads that read it; since when;
when its timer fires), how many instances are ready, and its start-up times there by source while
nothing else loads (remote: kept on the disk; stream: not kept); its copy on the disk and the loads
that read it; its uses since its weights last lay below the host."""
STORE = np.dtype([("listed", "i8")], align=True)
"""A host memory or a disk: how many copies stand in its eviction order (copy_order.py)."""
KEPT = np.dtype([("key", "f8"), ("pos", "i8"), ("fn", "i8")], align=True)
"""Record x of a store: key and place of function x's copy; and the function at place x."""
FG = np.dtype([("n", "i8"), ("ready", "i8"), ("active", "i8"), ("payer", "i8")], align=True)
"""A family on a GPU: its instances, those that are ready, those that load or work; and the function
that the shared weights are charged to."""
TARGET = np.dtype(
    [
        ("gpu", "i8"), ("kind", "i8"), ("tier", "i8"), ("min", "i8"), ("max", "i8"),
        ("weight", "f8"), ("n", "i8"), ("pinned", "i8"), ("turn", "f8"),
    ],
    align=True,
)  # fmt: skip
"""A row of the targets that stand: what it names and asks for; how many instances (or host copies)
it covers, those of them that are held for its floor, and its turn among the shares."""
SLOWED = np.dtype(
    [
        ("left", "f8"), ("speed", "f8"), ("fn", "i8"), ("head", "i8"), ("n", "i8"),
        ("prev", "i8"), ("next", "i8"),
    ],
    align=True,
)  # fmt: skip
"""A batch that others on its GPU may slow: seconds alone that are left, speed, its requests."""
CF = np.dtype([("alpha_s", "f8"), ("beta_s", "f8")], align=True)
"""A function on a class of GPU: its service times."""
LAYER = np.dtype([("head", "i8"), ("tail", "i8")], align=True)
"""Layers parked on a node: processes of one runtime, or (the last) all empty sandboxes."""
ORDER = np.dtype([("fn", "i8"), ("score", "f8"), ("until", "f8")], align=True)
"""A place in that order; for scanning rules the score and the time until which it stands."""
LINK = np.dtype(
    [
        ("rate", "f8"), ("fifo", "i8"), ("slots", "i8"), ("active", "i8"), ("queued", "i8"),
        ("passing", "i8"),
        ("head", "i8"), ("tail", "i8"), ("q_head", "i8"), ("q_tail", "i8"),
        ("t", "f8"), ("stamp", "i8"), ("bytes", "f8"), ("busy_s", "f8"),
    ],
    align=True,
)  # fmt: skip
REQ = np.dtype(
    [
        ("start", "f8"), ("finish", "f8"), ("next", "i8"), ("inst", "i8"), ("tier", "u1"),
        ("held", "u1"),
    ],
    align=True,
)  # fmt: skip
"""`held`: with the replica of its instance, where it waits or runs (llm_lanes.py)."""
EVENT = np.dtype([("t", "f8"), ("key", "i8"), ("a", "i8"), ("b", "i8")], align=True)
EFFECT = np.dtype(
    [("kind", "i8"), ("inst", "i8"), ("fn", "i8"), ("gpu", "i8"), ("a", "i8"), ("b", "i8")],
    align=True,
)
HYBRID = np.dtype([("count", "i8", (240,)), ("total", "i8"), ("oob", "i8")], align=True)
"""Idle-time histogram of the hybrid histogram policy: 240 bins of one minute."""
FAULT = np.dtype([("t", "f8"), ("kind", "i8"), ("at", "i8"), ("value", "f8")], align=True)
"""What goes wrong when (faults.py): to a node, or to a link, and the link's rate from then on."""
F8 = np.dtype([("v", "f8")])
I4 = np.dtype([("v", "i4")])

SCRATCH = np.dtype(
    [
        # the mixed forecast: its part without histograms, distribution, expected hold, a cost
        ("rest", "f8", (AGES,)), ("cdf", "f8", (AGES + 1,)), ("hold", "f8", (AGES + 1,)),
        ("gain", "f8", (AGES + 1,)), ("decay", "f8", (AGES + 1,)),
        # the hull: its edges, and the probability and hold between neighbours
        ("hull", "i8", (AGES + 1,)), ("rise", "f8", (AGES + 1,)), ("run", "f8", (AGES + 1,)),
        ("features", "f4", (FEATURE_COUNT,)),
    ],
    align=True,
)  # fmt: skip
"""Working memory of the hazard rule; holds the forecast of a function that waits for a decision."""


def _reference(dtype: np.dtype[Any]) -> Any:
    """Make `at(base, i)`: a reference to record i of the table at address `base`."""
    record = numba.from_dtype(dtype)
    size = dtype.itemsize

    if vars(numba.config)["DISABLE_JIT"]:

        def read(base: int, i: int) -> Any:
            raw: Any = (ctypes.c_char * size).from_address(int(base) + int(i) * size)
            return np.ndarray((1,), dtype, raw)[0]

        return read

    @intrinsic
    def at(typingctx: Any, base: Any, i: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            offset = builder.mul(args[1], ir.Constant(ir.IntType(64), size))
            address = builder.add(args[0], offset)
            return builder.inttoptr(address, context.get_value_type(record))

        return record(types.int64, types.int64), codegen

    return at


fn_at, inst_at, gpu_at, gf_at = _reference(FN), _reference(INST), _reference(GPU), _reference(GF)
node_at, nf_at, cf_at = _reference(NODE), _reference(NF), _reference(CF)
fg_at, store_at, kept_at = _reference(FG), _reference(STORE), _reference(KEPT)
target_at, layer_at = _reference(TARGET), _reference(LAYER)
slowed_at, fault_at = _reference(SLOWED), _reference(FAULT)
link_at, req_at, event_at = _reference(LINK), _reference(REQ), _reference(EVENT)
effect_at, f8_at, i4_at = _reference(EFFECT), _reference(F8), _reference(I4)
order_at, scratch_at = _reference(ORDER), _reference(SCRATCH)
hybrid_at = _reference(HYBRID)
