"""Random small clusters, workloads and orders, and what must hold of the tables at any instant.

Shapes: F functions, G GPUs.  Units: seconds, GiB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import CHOICES, Cluster, Function, Gpu, Link, Node, Rules, Service
from stoker.envs.workload.workload import Workload

FREE, STARTING, READY, FETCHING, PARKED = 0, 1, 2, 3, 4
HEAP_RULES = ("lru", "greedy_dual", "freq", "size", "lfu", "landlord")
QUEUEING = ("target_concurrency", "wait_vs_cold")
SHARING_IN_SPACE = ("per_request", "wait_vs_cold")
"""Rules of scale_out that need GPUs which run several batches at once."""
FAR_S = 1e5
LAYERS = (
    (), ("", 0.3), ("", 0.1, 0.5, 0.25), ("r", 0.2, 0.75, 0.5), ("r", 0.2, 0.0, 0.5, 0.0),
    ("r", 0.0, 0.5, 0.0, 1.5, 0.1),
)  # fmt: skip
"""runtime, sandbox_s, runtime_gib, sandbox_gib, lend_after_s, lent_s of a function."""
QUICK = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
"""The same examples at every run."""
LONG = settings(deadline=None, max_examples=1000, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Case:
    """One cluster with its traffic and the seed of its orders."""

    cluster: Cluster
    workload: Workload
    seed: int
    tick_s: float


@dataclass
class Orders:
    """Random legal decisions, the same for the same seed."""

    case: Case
    rules: Rules
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.case.seed)

    def next(self) -> dict[str, Any]:
        """Values of every field that this tick sets. Shape: (F,)"""
        n, pick = len(self.case.cluster.functions), self.rng.choice
        drawn = {
            "keep_alive_s": pick([0.0, 0.5, 3.0, math.inf], n),
            "host_keep_alive_s": pick([0.0, 2.0, math.inf], n),
            "runtime_keep_alive_s": pick([0.0, 1.0, math.inf], n),
            "sandbox_keep_alive_s": pick([0.0, 2.0, math.inf], n),
            "prewarm": pick([0, 0, 0, 1, 2], n),
            "prewarm_host": pick([0, 0, 1], n),
            "prewarm_after_s": pick([0.0, 1.5, math.inf], n),
            "prewarm_keep_s": pick([0.0, 2.0], n),
            "eviction_score": pick([-1.0, 0.0, 2.5, math.inf], n),
            "min_batch": pick([1, 1, 2, 4], n),
            "batch_wait_s": pick([0.0, 0.7, 4.0], n),
            "max_batch": pick([1, 2, 8], n),
            "max_instances": pick([0, 1, 2, 100], n),
            "drop_head": pick([0, 0, 0, 1], n),
            "gpu_class": pick([-1, -1, 0, 1], n),
        }
        return {name: v for name, v in drawn.items() if self.rng.random() < 0.7}

    def last(self) -> dict[str, Any]:
        """Orders under which everything that waits can be served."""
        n = len(self.case.cluster.functions)
        return {
            "min_batch": np.full(n, 2), "batch_wait_s": np.full(n, 1.0), "max_batch": np.full(n, 2),
            "max_instances": np.full(n, 50), "prewarm": np.zeros(n, int),
            "gpu_class": np.full(n, -1),
        }  # fmt: skip


def links() -> st.SearchStrategy[Link]:
    fair = st.builds(Link, st.sampled_from([0.7, 3.0]), st.just("fair"))
    fifo = st.builds(Link, st.sampled_from([0.7, 3.0]), st.just("fifo"), st.integers(1, 2))
    return st.one_of(st.just(Link()), fair, fifo)


def functions() -> st.SearchStrategy[list[Function]]:
    size = st.sampled_from([0.25, 1.0, 1.5, 2.0])
    one = st.builds(
        lambda name, weights, extra, runtime, warmup, ceiling, alpha, beta, batch, slots, other,
        paths, shared, layers: Function(
            name, weights, weights + extra, runtime, warmup, ceiling, alpha, beta, batch, slots,
            2.0, other, *paths, *shared, *layers,
        ),
        st.just("?"), size, st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 0.4]),
        st.sampled_from([0.0, 0.2]), st.sampled_from([math.inf, 0.9]),
        st.sampled_from([0.0, 0.1, 1.3]), st.sampled_from([0.0, 0.3]), st.sampled_from([1, 2, 4]),
        st.integers(1, 4), st.sampled_from([(), (Service("fast", 0.05, 0.01),)]),
        st.sampled_from([(1.0, math.inf, 0.0), (2.0, 0.1, 0.2)]),
        st.sampled_from([("", 0.0), ("kin", 0.25), ("clan", 0.2)]), st.sampled_from(LAYERS),
    )  # fmt: skip
    return st.lists(one, min_size=1, max_size=4)


@st.composite
def clusters(
    draw: st.DrawFn, sharing: tuple[str, ...] = ("parallel", "exclusive"), most_nodes: int = 3
) -> Cluster:
    """Any small cluster."""
    gpu = st.builds(
        Gpu, st.sampled_from([2.5, 4.0]), st.sampled_from([1.0, 3.0]),
        st.sampled_from(["gpu", "gpu", "fast"]), st.sampled_from(sharing), st.just(50.0),
        st.just(300.0),
    )  # fmt: skip
    node = st.builds(
        Node, st.lists(gpu, min_size=1, max_size=3).map(tuple), st.sampled_from([0.0, 2.0, 100.0]),
        st.just(0.01), links(), links(), st.sampled_from(["sequential", "pipelined"]),
        st.sampled_from([None, Link(5.0)]),
    )  # fmt: skip
    nodes = tuple(draw(st.lists(node, min_size=1, max_size=most_nodes)))
    named = [
        Function(f"f{k}", *[getattr(f, a) for a in list(Function.__dataclass_fields__)[1:]])
        for k, f in enumerate(draw(functions()))
    ]
    return Cluster(nodes, tuple(named))


@st.composite
def cases(
    draw: st.DrawFn, sharing: tuple[str, ...] = ("parallel", "exclusive"), most_nodes: int = 3
) -> Case:
    """A cluster with up to 40 requests in 30 seconds."""
    cluster = draw(clusters(sharing, most_nodes))
    last = len(cluster.functions) - 1
    request = st.tuples(st.integers(0, 300), st.integers(0, last))
    calls = sorted(draw(st.lists(request, max_size=40)))
    arrival = np.array([t / 10.0 for t, _ in calls], np.float64)
    function = np.array([f for _, f in calls], np.int32)
    names = tuple(f.name for f in cluster.functions)
    workload = Workload(arrival, function, names, FAR_S)
    return Case(
        cluster, workload, draw(st.integers(0, 2**31)), draw(st.sampled_from([0.7, 2.0, 9.0]))
    )


@st.composite
def rules(draw: st.DrawFn, scale_out: tuple[str, ...] = ("per_request", *QUEUEING)) -> Rules:
    """Any rules that fit together."""
    scale = draw(st.sampled_from(scale_out))
    eviction = draw(st.sampled_from((*HEAP_RULES, "score", "hazard")))
    orders = ["fcfs", "edf", "collation", "required_request_count"]
    order = "fcfs" if scale == "per_request" else draw(st.sampled_from(orders))
    held = order == "required_request_count"
    choices: dict[str, list[str]] = {
        "placement": list(CHOICES["rules.placement"]),
        "plan": ["decision", "hybrid_histogram", "hazard"],
        "overload": ["drop"] if scale == "per_request" else ["queue"] + ["drop"] * (not held),
        "eviction_need": ["shortfall", "full"] if eviction in HEAP_RULES else ["shortfall"],
        "futile_eviction": ["never", "allowed"],
        "clone_choice": ["mru", "lru", "newest", "arbitrary"],
        "ttl_anchor": ["end", "start"],
        "ttl_expiry": ["eager", "lazy"],
        "frequency": ["function", "instance"],
        "clock": ["max", "assign"],
    }
    picked = {name: draw(st.sampled_from(options)) for name, options in choices.items()}
    quantum = draw(st.sampled_from([0.0, 0.001]))
    params = {
        "order_max_wait_s": draw(st.sampled_from([0.0, 1.5, 20.0])),
        "order_required_requests": draw(st.sampled_from([1.0, 3.0])),
    }
    return Rules(
        scale, eviction=eviction, order=order, time_quantum_s=quantum, params=params, **picked
    )


def decide(sim: Simulation, orders: list[dict[str, Any]]) -> None:
    """Give each row its own orders; a row that sets nothing keeps what stands."""
    fn = sim.state.fn
    names = {name for o in orders for name in o}
    fields: dict[str, Any] = {}
    for name in sorted(names):
        values = fn[name].copy()
        for k, o in enumerate(orders):
            if name in o:
                values[k, : len(o[name])] = o[name]
        fields[name] = values
    sim.apply(Decision(**fields))
