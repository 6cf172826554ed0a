"""Run clusters in simulation: `simulate(cluster, workload, policy)` and the stepping core below it.

Shapes: B rows, F functions, G GPUs, N requests.  Units: seconds, dollars.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster import engine
from stoker.envs.cluster.decision import Capabilities, Decision, IdlePlan, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import Faults
from stoker.envs.cluster.idle import step_rows
from stoker.envs.cluster.matching import check
from stoker.envs.cluster.outcome import Result, collect
from stoker.envs.cluster.pending import Pending
from stoker.envs.cluster.policy_like import PolicyLike
from stoker.envs.cluster.size import Size
from stoker.envs.cluster.spec import GIB, Cluster, Rules
from stoker.envs.cluster.standing_orders import carry_out
from stoker.envs.cluster.state import State
from stoker.envs.cluster.tables import EXPERTS
from stoker.envs.cluster.telemetry import Telemetry
from stoker.envs.cluster.tick_observer import TickObserver
from stoker.envs.cluster.under import run_under
from stoker.envs.workload.workload import Workload

NO_PLAN = IdlePlan(np.zeros((0, EXPERTS)), np.zeros(0), np.zeros(0, np.int64))
"""Where no row is due a decision."""


class Simulation:
    """B independent clusters, each with its own workload, under one set of rules.

    Args:
        clusters: one a row; rows may differ in functions, GPUs and links.
        workloads: one a row.
        rules: event-level choices of all rows.
        pause: stop a row whenever a function becomes idle, for an outside decision.
        track: keep arrival rates and gap histograms (needed by snapshots and planning rules).
        warmup_s: requests that arrive earlier are left out of waiting and lateness figures.
        threads: threads over the rows; results do not depend on it.
        functions: room for at least so many functions a row, for later `load`s.
        gpus: likewise for GPUs.
        faults: what goes wrong, one a row; None = nothing.
        heed: stop a row (status NOTICED) whenever nodes are announced to go, go or may come back,
            until the next `apply`.
    """

    def __init__(
        self,
        clusters: Sequence[Cluster],
        workloads: Sequence[Workload],
        rules: Rules | None = None,
        *,
        pause: bool = False,
        track: bool = True,
        warmup_s: float = 0.0,
        threads: int = 1,
        functions: int = 0,
        gpus: int = 0,
        faults: Sequence[Faults | None] | None = None,
        heed: bool = False,
    ) -> None:
        if len(clusters) != len(workloads) or not clusters:
            raise SpecError("workloads", len(workloads), f"one a cluster ({len(clusters)}), >= 1")
        self.rules = rules or Rules()
        for cluster, workload in zip(clusters, workloads, strict=True):
            check(cluster, workload, self.rules)
        self.clusters = list(clusters)
        threads = min(threads, len(clusters))
        size = Size.of(clusters, functions, gpus)
        self.state = State(len(clusters), size, self.rules, threads)
        self._options = {"track": track, "heed": heed}
        wrong = [None] * len(clusters) if faults is None else list(faults)
        if len(wrong) != len(clusters):
            raise SpecError("faults", len(wrong), f"one a cluster ({len(clusters)})")
        for k, (cluster, workload) in enumerate(zip(clusters, workloads, strict=True)):
            self.load(k, cluster, workload, warmup_s=warmup_s, pause=pause, faults=wrong[k])
        self.capabilities = Capabilities()
        self.pending = Pending.empty(len(clusters))
        """The decisions that are due; filled by `run` where a row pauses."""
        self.observer: TickObserver | None = None
        """What fills `Snapshot.observation`; see `observe`."""
        self._never = np.full(len(clusters), np.inf)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def load(
        self,
        k: int,
        cluster: Cluster,
        workload: Workload,
        *,
        warmup_s: float,
        pause: bool = False,
        faults: Faults | None = None,
    ) -> None:
        """Start row k afresh on a cluster and a workload that fit its tables."""
        check(cluster, workload, self.rules)
        self.clusters[k] = cluster
        options = {**self._options, "pause": pause, "warmup": warmup_s}
        self.state.load(k, cluster, workload, faults, **options)

    @property
    def over(self) -> NDArray[np.bool_]:
        """Rows past their horizon. Shape: (B,)"""
        over: NDArray[np.bool_] = self.state.rows["status"] == engine.OVER
        return over

    def observe(self, policy: PolicyLike) -> None:
        """Fill `Snapshot.observation` from now on, if the policy asks for it."""
        if policy.observes:
            rows, slots = self.state.fn.shape
            self.observer = TickObserver(rows, slots, policy.slo_target)

    def run(
        self, until_s: float | NDArray[np.float64] = np.inf, plan: IdlePlan | None = None
    ) -> NDArray[np.int64]:
        """Advance every row to its time, its horizon or its next pause; return the states.

        Args:
            until_s: one time, or one a row. Shape: () or (B,)
            plan: decisions of the rows that have paused, other rows' are ignored; without one they
                stay paused.
        """
        until = np.full(len(self.state.rows), until_s, np.float64)
        self._run(until, 0, len(self.state.rows), plan)
        status: NDArray[np.int64] = self.state.rows["status"].copy()
        return status

    def run_on(self, plan: IdlePlan | None) -> int:
        """Advance every row to its horizon or its next pause; return one bit a state seen."""
        return self._run(self._never, 0, len(self.state.rows), plan)

    def run_row(self, k: int, until_s: float) -> None:
        """Advance row k alone."""
        self._run(np.full(len(self.state.rows), until_s), k, k + 1, None)

    def _run(self, until: NDArray[np.float64], first: int, last: int, plan: IdlePlan | None) -> int:
        """Advance rows first..last-1, growing the buffers that are full; return the states seen."""
        rows = self.state.rows
        while True:
            seen = self._run_once(until, first, last, plan)
            plan = None  # carried out
            if seen & 1 << engine.FULL_INSTANCES:
                self.state.grow_instances()
            elif seen & 1 << engine.FULL_HEAP:
                used = rows["heap_n"] + rows["slowed_n"] + rows["queued"]
                self.state.grow_heap(int(2 * used.max() + 1024))
            else:
                return seen

    def _run_once(
        self, until: NDArray[np.float64], first: int, last: int, plan: IdlePlan | None
    ) -> int:
        """One pass, in parallel where it is over all rows; return the statuses seen, as bits."""
        orders = (until, plan is not None, (plan or NO_PLAN).columns, self.pending.books)
        rows = self.state.rows
        seen: int = 0
        if self._pool is None or last - first < len(rows):
            seen = step_rows(rows, first, last, *orders)
            return seen
        jobs = [
            self._pool.submit(step_rows, rows, a, b, *orders)
            for a, b in pairwise(self.state.cuts.tolist())
        ]
        for job in jobs:
            seen |= job.result()
        return seen

    def apply(self, decision: Decision) -> None:
        """Legalise standing orders of shape (B, F), count the clips and carry the orders out."""
        carry_out(decision, self.state, self.clusters, self.capabilities)

    def snapshot(self) -> Snapshot:
        """What a policy sees now; the arrays are views."""
        fn, rows, gpu = self.state.fn, self.state.rows, self.state.gpu
        return Snapshot(
            now_s=rows["now"],
            age_s=np.zeros(len(rows)),
            idle=fn["idle"],
            busy=fn["busy"],
            loading=fn["loading"],
            on_host=(fn["hosts"] > 0).astype(np.int32),
            queued=fn["queued"],
            arrivals=fn["arrivals"],
            last_arrival_s=fn["last_arrival"],
            last_idle_s=fn["last_idle"],
            rate_hz=fn["rate"],
            gap_histogram=fn["slow"],
            free_gib=(gpu["cap"] - gpu["used"]) * (gpu["closed"] == 0) / GIB,
            host_free_gib=(rows["host_cap"] - rows["host_used"]) / GIB,
            loads_in_progress=rows["loads_now"].astype(np.int32),
            memory_price=rows["price"],
            nodes_up=self.state.nodes_by_class(up=True),
            observation=np.zeros((len(rows), 0), np.float32)
            if self.observer is None
            else self.observer.see(rows),
        )

    def result(self, row: int = 0) -> Result:
        """Outcome and bill of one row up to its present."""
        engine.close_rows(self.state.rows)
        if self.state.lanes is not None:
            from stoker.envs.cluster.llm_books import book_rows  # on demand, as the lanes are

            book_rows(self.state.rows[row : row + 1])
        return collect(self.state, self.clusters[row], row)


def simulate(
    cluster: Cluster | Sequence[Cluster],
    workload: Workload | Sequence[Workload],
    policy: PolicyLike,
    *,
    warmup_s: float = 0.0,
    threads: int = 1,
    faults: Faults | Sequence[Faults | None] | None = None,
) -> list[Result]:
    """Run a policy over one or several (cluster, workload) rows from start to horizon.

    The policy decides before the first arrival and then every `tick_s`, and whenever a node is
    announced to go, goes or may come back; one that has `act` also whenever a function becomes
    idle. Rows have clocks of their own: one may be at its tick, another at a notice.

    Args:
        cluster: one, or one a row.
        workload: likewise.
        policy: makes the decisions.
        warmup_s: requests that arrive earlier are left out of waiting and lateness figures.
        threads: threads over the rows; results do not depend on it.
        faults: what goes wrong; one, or one a row.

    Returns:
        One result a row.
    """
    clusters = [cluster] if isinstance(cluster, Cluster) else list(cluster)
    workloads = [workload] if isinstance(workload, Workload) else list(workload)
    if faults is None or isinstance(faults, Faults):
        faults = [faults] * len(clusters)
    sim = simulation_for(
        policy, clusters, workloads, warmup_s=warmup_s, threads=threads, faults=faults
    )
    telemetry = Telemetry(faults)
    now, status = np.zeros(len(clusters)), np.zeros(len(clusters), np.int64)
    while not sim.over.all():
        sim.apply(policy.decide(telemetry.see(sim.snapshot())))
        now[status != engine.NOTICED] += policy.tick_s
        status = run_under(policy, sim, now)
    return [sim.result(k) for k in range(len(clusters))]


def simulation_for(
    policy: PolicyLike,
    clusters: Sequence[Cluster],
    workloads: Sequence[Workload],
    *,
    warmup_s: float,
    threads: int,
    faults: Sequence[Faults | None],
) -> Simulation:
    """A simulation that tracks and stops for what the policy needs; resets the policy."""
    rules, acts = policy.rules, getattr(policy, "act", None) is not None
    plans = rules.plan != "decision" or rules.eviction == "hazard"
    sim = Simulation(
        clusters,
        workloads,
        rules,
        pause=acts,
        track=plans or acts or policy.observes or math.isfinite(policy.tick_s),
        warmup_s=warmup_s,
        threads=threads,
        faults=faults,
        heed=True,
    )
    sim.observe(policy)
    policy.reset(sim.clusters[0], len(sim.clusters))
    return sim
