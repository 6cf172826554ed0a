"""Replays a workload in real time on real models, and reports what the simulator reports.

Requests leave at their arrival times whatever happens to earlier ones (open loop).

Units: seconds, bytes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.base import Policy
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.outcome import Result
from stoker.envs.cluster.spec import GIB, Cluster
from stoker.envs.workload.workload import Workload
from stoker.runtime.backend import Backend, Ledger, TorchBackend
from stoker.runtime.catalog import Deployment
from stoker.runtime.clock import RealClock
from stoker.runtime.controller import Controller
from stoker.runtime.controller_settings import ControllerSettings
from stoker.runtime.counts import GuardCounts
from stoker.runtime.decision_log import DecisionLog
from stoker.runtime.guard import Guard
from stoker.runtime.guard_settings import GuardSettings
from stoker.runtime.keeper import Keeper
from stoker.runtime.payloads import sample_payload
from stoker.runtime.planner import warm_up
from stoker.runtime.requests import Answer, RequestFailed, Statistics

DRAIN_S = 30.0
"""Time after the horizon in which open requests may still end; then they fail."""
QUANTILES = (50, 95, 99)
REFUSED = ("rejected", "overflow", "expired")
PAYLOADS = 64
"""Different payloads a function; requests take them in turn."""

Progress = Callable[[str, float], None]
"""Called with a word and the fraction of the workload's time that has passed."""


@dataclass(frozen=True)
class ReplayResult:
    """What happened, by the planner's books and by the sender's watch."""

    result: Result
    """Outcome and bill, as in the simulator."""
    latency_s: NDArray[np.float64]
    """By the sender's watch; NaN for what was not served. Shape: (N,)"""
    errors: tuple[str | None, ...]
    """One line for each request that failed. Length N"""
    statistics: Statistics
    guard: GuardCounts
    fallback: str
    ledger: Ledger
    ledger_gap_bytes: int
    """Largest difference, over devices and host, between the planner's books and the backend's."""
    send_lag_s: NDArray[np.float64]
    """How late each request left. Shape: (N,)"""

    def summary(self) -> dict[str, float]:
        """The simulator's figures, and those that only a real run has."""
        overhead = np.array(self.statistics.overhead_s) if self.statistics.overhead_s else [0.0]
        figures = dict(self.result.summary())
        figures |= {
            "errors": float(sum(error is not None for error in self.errors)),
            "load_errors": float(self.statistics.counts["load_errors"]),
            "lost_instances": float(self.statistics.counts["lost_instances"]),
            "ledger_gap_bytes": float(self.ledger_gap_bytes),
            "decisions": float(self.guard.decisions + self.guard.events),
            "fallbacks": float(sum(self.guard.fallbacks.values())),
            "trips": float(self.guard.trips),
            "refused": float(sum(self.statistics.counts[kind] for kind in REFUSED)),
            "send_lag_p99_s": _quantile(self.send_lag_s, 99),
            "overhead_p50_s": float(np.percentile(overhead, 50)),
            "overhead_p99_s": float(np.percentile(overhead, 99)),
        }
        return figures | {f"real_p{q}_s": _quantile(self.latency_s, q) for q in QUANTILES}

    def error_counts(self) -> Counter[str]:
        """Failed requests by reason."""
        return Counter(error for error in self.errors if error is not None)


def _quantile(values: NDArray[np.float64], q: int) -> float:
    known = values[np.isfinite(values)]
    return float(np.percentile(known, q)) if len(known) else 0.0


def replay(
    cluster: Cluster,
    workload: Workload,
    policy: Policy,
    deployments: Sequence[Deployment],
    *,
    backend: Backend | None = None,
    cold_disk: bool = True,
    device: str = "cpu",
    fallback: Policy | None = None,
    guard: GuardSettings | None = None,
    settings: ControllerSettings | None = None,
    log: str | Path | None = None,
    keeper: Keeper | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ReplayResult:
    """Serve a workload on real models under a policy.

    Args:
        cluster: as calibrated; its devices and host tier set the sizes of the real ones.
        workload: over the cluster's functions, in the cluster's order.
        policy: asked through a Guard, at every tick or, if it has `act`, at every idle event.
        deployments: the function of each of the cluster's functions, in order.
        backend: None = torch workers made for this replay.
        cold_disk: as in calibration.
        device: cpu, or cuda.
        fallback: see Guard.
        guard: how far the policy is trusted.
        settings: of queues and deadlines.
        log: folder for the decisions; None = they are not logged.
        keeper: of what is known of the traffic, from an earlier replay and for a later one.
        seed: of the payloads.
        progress: told about once a second.

    Raises:
        SpecError: cluster, workload and deployments do not agree.
    """
    _check(cluster, workload, deployments)
    if backend is None:
        sizes = [round(gpu.memory_gib * GIB) for gpu in cluster.node.gpus]
        host = round(cluster.node.host_gib * GIB)
        backend = TorchBackend(deployments, sizes, host, device, cold_disk=cold_disk)
    settings = settings or ControllerSettings()
    decisions = DecisionLog(log, [f.name for f in cluster.functions]) if log is not None else None
    try:
        guarded = Guard(policy, cluster, fallback, guard, decisions)
        session = _Session(cluster, workload, deployments, backend, guarded, settings, keeper)
        session.use(np.random.default_rng(seed), progress)
        try:
            return asyncio.run(session.play())
        finally:
            guarded.close()
    finally:
        if decisions is not None:
            decisions.close()


def _check(cluster: Cluster, workload: Workload, deployments: Sequence[Deployment]) -> None:
    names = [f.name for f in cluster.functions]
    served = [d.function for d in deployments]
    if served != names:
        raise SpecError("replay.deployments", served, f"the cluster's functions, {names}")
    if len(workload.names) != len(names):
        accepted = f"as many as the cluster has functions ({len(names)})"
        raise SpecError("workload.names", len(workload.names), accepted)


class _Session:
    def __init__(
        self,
        cluster: Cluster,
        workload: Workload,
        deployments: Sequence[Deployment],
        backend: Backend,
        guard: Guard,
        settings: ControllerSettings,
        keeper: Keeper | None,
    ) -> None:
        self.workload, self.backend, self.guard = workload, backend, guard
        self.settings, self.keeper = settings, keeper
        self.engine = LiveEngine(
            cluster, guard.rules, capacity=len(workload) + 1, act=guard.act,
            batched=guard.batched, residency_s=settings.residency_s,
        )  # fmt: skip
        self.cluster, self.deployments = cluster, tuple(deployments)
        self.names = [f.name for f in cluster.functions]
        self.send_lag_s = np.zeros(len(workload))
        self.payloads: list[list[Any]] = []
        self.progress: Progress | None = None

    def use(self, rng: np.random.Generator, progress: Progress | None) -> None:
        """Draw the payloads, and say to whom to tell how far it has come."""
        self.progress = progress
        self.payloads = [
            [sample_payload(d.model, rng) for _ in range(PAYLOADS)] for d in self.deployments
        ]

    async def play(self) -> ReplayResult:
        await self.backend.start()
        await asyncio.to_thread(warm_up, self.cluster, self.guard.rules, self.guard.policy)
        clock = RealClock()
        controller = Controller(
            self.engine, self.backend, self.names, self.guard, clock, self.settings,
            self.keeper,
        )  # fmt: skip
        try:
            await controller.start(start_backend=False)
            futures = await self._send(controller, clock)
            if futures:
                await asyncio.wait(futures, timeout=DRAIN_S)
            end_s = clock.now()
            ledger = self.backend.ledger if isinstance(self.backend, TorchBackend) else None
        finally:
            await controller.close()
        return self._collect(controller, futures, ledger or Ledger((), 0, 0), end_s)

    async def _send(self, controller: Controller, clock: RealClock) -> list[asyncio.Future[Answer]]:
        futures = []
        told_s = 0.0
        for i, at_s in enumerate(self.workload.arrival_s):
            while (wait_s := at_s - clock.now()) > 0.0:
                await asyncio.sleep(min(wait_s, 1.0))
                if clock.now() - told_s > 1.0:
                    told_s = clock.now()
                    self._tell("replay", min(told_s / self.workload.horizon_s, 1.0))
            fn = int(self.workload.function[i])
            self.send_lag_s[i] = clock.now() - at_s
            futures.append(controller.request(fn, self.payloads[fn][i % PAYLOADS]))
        await asyncio.sleep(max(self.workload.horizon_s - clock.now(), 0.0))
        self._tell("replay", 1.0)
        return futures

    def _tell(self, what: str, done: float) -> None:
        if self.progress is not None:
            self.progress(what, done)

    def _gap(self, ledger: Ledger) -> int:
        if not isinstance(self.backend, TorchBackend):
            return 0
        node, seen = self.cluster.node, self.engine.snapshot()
        sizes = np.array([gpu.memory_gib for gpu in node.gpus])
        device = (sizes - seen.free_gib[0]) * GIB - np.array(ledger.device)
        host = (node.host_gib - float(seen.host_free_gib[0])) * GIB - ledger.host
        return round(max(float(np.abs(device).max()), abs(host)))

    def _collect(
        self,
        controller: Controller,
        futures: list[asyncio.Future[Any]],
        ledger: Ledger,
        end_s: float,
    ) -> ReplayResult:
        latency_s = np.full(len(futures), np.nan)
        errors: list[str | None] = []
        for i, future in enumerate(futures):
            error = future.exception()
            errors.append(str(error) if isinstance(error, RequestFailed) else None)
            if error is None:
                answer: Answer = future.result()
                latency_s[i] = answer.finish_s - answer.arrival_s
        return ReplayResult(
            result=self.engine.result(end_s),
            latency_s=latency_s,
            errors=tuple(errors),
            statistics=controller.statistics,
            guard=self.guard.counts,
            fallback=self.guard.fallback_name,
            ledger=ledger,
            ledger_gap_bytes=self._gap(ledger),
            send_lag_s=self.send_lag_s,
        )
