"""Random small clusters, workloads and orders, and what must hold of the tables at any instant.

Shapes: F functions, G GPUs.  Units: seconds, GiB.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.faults import Faults, NodeLoss, SlowLink
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import CHOICES, Cluster, Function, Gpu, Link, Node, Rules, Service
from stoker.envs.cluster.targets import Targets
from stoker.envs.workload.workload import Workload

FREE, STARTING, READY, FETCHING, SHARD, PARKED = 0, 1, 2, 3, 4, 5
HEAP_RULES = ("lru", "greedy_dual", "freq", "size", "lfu", "landlord", "greedy_dual_two_tier")
QUEUEING = ("target_concurrency", "wait_vs_cold")
AT_ONCE = ("per_request", "wait_vs_cold")
"""Rules of scale_out that need GPUs which run several batches at once."""
ON_BACKEND = ("parallel", "exclusive")
SHARINGS = (*ON_BACKEND, "processor", "spatial")
FAR_S = 1e5
LAYERS: tuple[dict[str, Any], ...] = (
    {},
    {"sandbox_s": 0.3},
    {"sandbox_s": 0.1, "runtime_gib": 0.5, "sandbox_gib": 0.25},
    {"runtime": "r", "sandbox_s": 0.2, "runtime_gib": 0.75, "sandbox_gib": 0.5},
    {"runtime": "r", "sandbox_s": 0.2, "sandbox_gib": 0.5, "lend_after_s": 0.0},
    {"runtime": "r", "runtime_gib": 0.5, "lend_after_s": 1.5, "lent_s": 0.1},
)
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
    faults: Faults | None = None


@dataclass
class Orders:
    """Random legal decisions, the same for the same seed."""

    case: Case
    rules: Rules
    places: bool = True
    """Whether targets and wanted nodes are among them."""
    rng: np.random.Generator = field(init=False)
    tick: int = 0

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
            "host_eviction_score": pick([-1.0, 0.0, 2.5, math.inf], n),
            "min_batch": pick([1, 1, 2, 4], n),
            "batch_wait_s": pick([0.0, 0.7, 4.0], n),
            "max_batch": pick([1, 2, 8], n),
            "max_instances": pick([0, 1, 2, 100], n),
            "drop_head": pick([0, 0, 0, 1], n),
            "gpu_class": pick([-1, -1, 0, 1], n),
        }
        found = {name: v for name, v in drawn.items() if self.rng.random() < 0.7}
        self.tick += 1
        # At the same ticks in all rows: a table replaces that of all.
        if self.places and self.tick % 3 == 1:
            found["targets"] = self.targets()
        if self.places and self.tick % 2 == 0:
            found["nodes_wanted"] = pick([-1, 0, 1, 1, 2, 9], len(self.case.cluster.kinds))
        return found

    def targets(self) -> dict[str, Any]:
        """Columns of a table of up to five rows, some of which name nothing or make no sense."""
        cluster, n, pick = self.case.cluster, self.rng.choice([0, 1, 3, 5]), self.rng.choice
        gpus = len(cluster.gpus)
        return {
            "function": self.rng.integers(0, len(cluster.functions) + (n == 5), n),
            "gpu": pick([-1, 0, gpus - 1, gpus - 1, gpus], n),
            "gpu_class": pick([-1, -1, 0, 1], n),
            "tier": pick([0, 0, 0, 1], n),
            "min": pick([0, 1, 1, 2, -1], n),
            "max": pick([0, 1, 2, 100], n),
            "weight": pick([0.0, 1.0, 3.0, math.nan], n),
        }

    def last(self) -> dict[str, Any]:
        """Orders under which everything that waits can be served."""
        n = len(self.case.cluster.functions)
        found: dict[str, Any] = {
            "min_batch": np.full(n, 2), "batch_wait_s": np.full(n, 1.0), "max_batch": np.full(n, 2),
            "max_instances": np.full(n, 50), "prewarm": np.zeros(n, int),
            "gpu_class": np.full(n, -1),
        }  # fmt: skip
        if self.places:
            found["targets"] = {"function": np.zeros(0, int)}
            found["nodes_wanted"] = np.full(len(self.case.cluster.kinds), 99)
        return found


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
            2.0, other, *paths, *shared, **layers,
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
    draw: st.DrawFn,
    sharing: tuple[str, ...] = SHARINGS,
    most_nodes: int = 3,
    spans: bool = True,
) -> Cluster:
    """Any small cluster; `spans`: functions may span several GPUs."""
    found = draw(st.sampled_from([sharing, sharing, sharing[:1]]))
    gpu = st.builds(
        lambda *fields: Gpu(*fields[:4], 50.0, 300.0, *fields[4] * (fields[3] == "spatial")),
        st.sampled_from([2.5, 4.0]), st.sampled_from([1.0, 3.0]),
        st.sampled_from(["gpu", "gpu", "fast"]), st.sampled_from(found),
        st.sampled_from([(), ("linear", (0.5, 1.5, 0.2, 0.7, 0.9)), ("excess",)]),
    )  # fmt: skip
    stores = st.tuples(st.sampled_from([0.0, 0.8, 2.0, 3.5]), links())
    node = st.builds(
        lambda *fields: Node(*fields[:-3], *fields[-3], *fields[-2:]),
        st.lists(gpu, min_size=1, max_size=3).map(tuple), st.sampled_from([0.0, 2.0, 100.0]),
        st.just(0.01), links(), links(), st.sampled_from(["sequential", "pipelined"]),
        st.sampled_from([None, Link(5.0)]), st.one_of(st.just((math.inf, None)), stores),
        st.sampled_from(["instant", "copy"]), st.sampled_from([0.0, 0.0, 1.7]),
    )  # fmt: skip
    nodes = tuple(draw(st.lists(node, min_size=1, max_size=most_nodes)))
    most = most_gpus(nodes) if spans else 1
    named = []
    for k, f in enumerate(draw(functions())):
        gpus = min(draw(st.sampled_from([1, 1, 2, 3])), 1 if f.shared_gib > 0.0 else most)
        named.append(
            replace(f, name=f"f{k}", weights_gib=gpus * f.weights_gib,
                    device_gib=gpus * f.device_gib, gpus=gpus,
                    gpu_fraction=draw(st.sampled_from([1.0, 0.5, 0.3, 0.1])),
                    compute_util=draw(st.sampled_from([0.0, 0.3, 0.9])),
                    memory_util=draw(st.sampled_from([0.1, 0.6])))
        )  # fmt: skip
    return Cluster(nodes, tuple(named))


def most_gpus(nodes: tuple[Node, ...]) -> int:
    """GPUs that a function may span on some node: of one class, all parallel everywhere."""
    if any(g.sharing != "parallel" for node in nodes for g in node.gpus):
        return 1
    return max(Counter(g.kind for g in node.gpus).most_common(1)[0][1] for node in nodes)


@st.composite
def cases(
    draw: st.DrawFn,
    sharing: tuple[str, ...] = SHARINGS,
    most_nodes: int = 3,
    spans: bool = True,
) -> Case:
    """A cluster with up to 40 requests in 30 seconds."""
    cluster = draw(clusters(sharing, most_nodes, spans))
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
def faults(draw: st.DrawFn, nodes: int) -> Faults:
    """Anything that goes wrong within 40 seconds; what is lost comes back."""
    at, node = st.sampled_from([0.0, 1.3, 4.0, 7.0, 12.5, 28.0, 36.0]), st.integers(0, nodes - 1)
    away, factor = st.sampled_from([0.0, 2.0, 15.0]), st.sampled_from([0.1, 0.5, 1.0])
    loss = st.builds(NodeLoss, at, node, away, st.sampled_from([None, 0.0, 1.0, 6.0]))
    link = st.sampled_from(["disk", "pcie", "nvlink", "network"])
    slow = st.builds(SlowLink, at, node, link, factor, st.sampled_from([0.5, 3.0, 20.0]))
    factors = st.sampled_from([(), (0.5, 1.0, 3.0)])
    return Faults(
        tuple(draw(st.lists(loss, max_size=4))), tuple(draw(st.lists(slow, max_size=4))),
        draw(st.booleans()), draw(factors), draw(factors), seed=draw(st.integers(0, 9)),
    )  # fmt: skip


@st.composite
def faulty(
    draw: st.DrawFn, sharing: tuple[str, ...] = ("parallel", "exclusive"), spans: bool = True
) -> Case:
    """A case in which things go wrong."""
    case = draw(cases(sharing, spans=spans))
    return replace(case, faults=draw(faults(len(case.cluster.all_nodes))))


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
        "host_eviction": list(CHOICES["rules.host_eviction"]),
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


def all_targets(tables: list[dict[str, Any]]) -> Targets:
    """One table of those of all rows."""
    row = np.repeat(np.arange(len(tables)), [len(t["function"]) for t in tables])
    whole = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    return Targets(row, **whole)


def decide(sim: Simulation, orders: list[dict[str, Any]]) -> None:
    """Give each row its own orders; a row that sets nothing keeps what stands."""
    fn = sim.state.fn
    names = {name for o in orders for name in o}
    fields: dict[str, Any] = {}
    if "targets" in names:
        fields["targets"] = all_targets([o["targets"] for o in orders])
    if "nodes_wanted" in names:
        wide = np.zeros((len(orders), sim.state.size.kinds), int)
        for k, o in enumerate(orders):
            wide[k, : len(o["nodes_wanted"])] = o["nodes_wanted"]
        fields["nodes_wanted"] = wide
    for name in sorted(names - {"targets", "nodes_wanted"}):
        values = fn[name].copy()
        for k, o in enumerate(orders):
            if name in o:
                values[k, : len(o[name])] = o[name]
        fields[name] = values
    sim.apply(Decision(**fields))
