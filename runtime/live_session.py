"""Real models under orders from outside, on a loop of their own thread: time goes on meanwhile.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import numpy as np

from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.outcome import Result
from stoker.envs.cluster.policy_like import PolicyLike
from stoker.envs.cluster.spec import GIB, Cluster
from stoker.envs.workload import Workload
from stoker.runtime.backend import TorchBackend
from stoker.runtime.catalog import Deployment
from stoker.runtime.clock import RealClock
from stoker.runtime.controller import Controller
from stoker.runtime.payloads import sample_payload
from stoker.runtime.planner import warm_up

PAYLOADS = 16
"""Different payloads a function."""


class LiveSession:
    """One episode: requests leave at their times, whatever happens to earlier ones.

    Args:
        cluster: as calibrated.
        workload: over its functions.
        deployments: of its functions.
        policy: states the rules, and whether snapshots are to hold observations.
        device: cpu, or cuda.
        rng: for the payloads.
    """

    def __init__(
        self,
        cluster: Cluster,
        workload: Workload,
        deployments: tuple[Deployment, ...],
        policy: PolicyLike,
        device: str,
        rng: np.random.Generator,
    ) -> None:
        self._workload, self._clock = workload, RealClock()
        self._payloads = [
            [sample_payload(d.model, rng) for _ in range(PAYLOADS)] for d in deployments
        ]
        self.engine = LiveEngine(cluster, policy.rules, capacity=len(workload) + 1)
        self.engine.observe(policy)
        warm_up(cluster, policy.rules, policy)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        sizes = [round(gpu.memory_gib * GIB) for gpu in cluster.node.gpus]
        host = round(cluster.node.host_gib * GIB)
        self._open = True
        self._do(self._start(TorchBackend(deployments, sizes, host, device), cluster))

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _start(self, backend: TorchBackend, cluster: Cluster) -> None:
        await backend.start()
        self._clock = RealClock()
        names = [f.name for f in cluster.functions]
        self._controller = Controller(self.engine, backend, names, clock=self._clock)
        await self._controller.start(start_backend=False)
        self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        for i, at_s in enumerate(self._workload.arrival_s):
            await asyncio.sleep(max(float(at_s) - self._clock.now(), 0.0))
            fn = int(self._workload.function[i])
            self._controller.request(fn, self._payloads[fn][i % PAYLOADS])

    def tick(self, decision: Decision, until_s: float) -> Snapshot:
        """Give orders, let time pass, and return what is seen then."""
        seen: Snapshot = self._do(self._tick(decision, until_s))
        return seen

    async def _tick(self, decision: Decision, until_s: float) -> Snapshot:
        self._controller.order(decision)
        await asyncio.sleep(max(until_s - self._clock.now(), 0.0))
        return self.look_now()

    def look_now(self) -> Snapshot:
        """Look; on the session's own thread alone."""
        return self._controller.look()

    def look(self) -> Snapshot:
        """Return what is seen now."""

        async def seen() -> Snapshot:
            return self.look_now()

        found: Snapshot = self._do(seen())
        return found

    def end(self) -> Result:
        """Return outcome and bill up to now."""

        async def settle() -> Result:
            return self.engine.result(self._clock.now())

        found: Result = self._do(settle())
        return found

    def close(self) -> None:
        """Stop the backend and the thread."""
        if not self._open:
            return
        self._open = False
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._sending.cancel()
        await self._controller.close()
