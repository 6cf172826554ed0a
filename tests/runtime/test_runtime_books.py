"""What planner, ledger and worker say of a device's memory, on real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import numpy as np
import pytest
from running import backend
from small_models import CNN, GPT, MakeModel
from test_runtime_live import Keep
from test_runtime_replay import made_for

from stoker.envs.cluster.live import LiveEngine
from stoker.runtime import process
from stoker.runtime.backend import TorchBackend
from stoker.runtime.books import disagreements
from stoker.runtime.catalog import deploy
from stoker.runtime.clock import RealClock
from stoker.runtime.controller import Controller
from stoker.runtime.device import Device
from stoker.runtime.guard import Guard
from stoker.runtime.messages import WorkerSpec
from stoker.runtime.payloads import sample_payload
from stoker.runtime.process import OrderFailed
from stoker.runtime.soak import own_bytes

MIB = 2**20


class Greedy(Keep):
    """As many instances of everything as fit, at every tick: victims in their dozens."""

    tick_s = 0.2

    def decide(self, snapshot: Any) -> Any:
        decision = super().decide(snapshot)
        decision.prewarm = np.full(self.shape, 10_000, np.int32)
        return decision


def test_a_worker_that_dies_full_of_instances_leaves_books_that_agree(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MAX_DEATHS", 1000)
    wide = {**CNN, "hidden": 8000}
    served = deploy([make_model("gpt", GPT, 1), make_model("wide", wide, 2)], 4)
    room = served[1].device_bytes + 40 * served[0].device_bytes
    cluster = made_for(served, room, 0)

    rng = np.random.default_rng(0)
    payloads = [sample_payload(d.model, rng) for d in served]

    async def main() -> tuple[Controller, list[str], int]:
        real = TorchBackend(served, [room])
        await real.start()
        guard = Guard(Greedy(np.inf, 0.0), cluster)
        engine = LiveEngine(cluster, guard.rules, recycle=True)
        names = [f.name for f in cluster.functions]
        controller = Controller(engine, real, names, guard, RealClock())
        await controller.start(start_backend=False)
        found: list[str] = []
        looks = 0
        try:
            for k in range(6):
                asked = [controller.request(f, payload) for f, payload in enumerate(payloads)]
                await asyncio.sleep(0.02 * (k % 4))
                pid = real.workers[0].pid
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                await asyncio.wait(asked, timeout=30.0)
                books = None
                while books is None:
                    await asyncio.sleep(0.05)
                    books = await disagreements(cluster, engine, real)
                looks += 1
                found += books
        finally:
            await controller.close()
            guard.close()
        return controller, found, looks

    controller, found, looks = asyncio.run(main())
    counts = controller.statistics.counts
    assert controller.fault is None
    assert (found, looks) == ([], 6)
    assert counts["lost_instances"] > 100 and counts["order_errors"] == 0


def test_a_block_is_free_even_if_its_weights_cannot_be_kept(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*blocks: Any) -> None:
        raise RuntimeError("the copy failed")

    served = deploy([make_model("cnn", CNN)], 1)
    device = Device(WorkerSpec(0, "cpu", MIB, served))
    device.load(3, 0, "disk", -1)
    assert device.arena.used == 415_424  # 415,368 bytes of weights, in places of 64
    monkeypatch.setattr(device._copier, "copy", fails)
    with pytest.raises(RuntimeError, match="the copy failed"):
        device.drop(3, 0)
    assert device.arena.used == 0 and not device.residents


def test_a_number_that_is_on_the_device_is_not_loaded_again(make_model: MakeModel) -> None:
    async def main() -> None:
        async with backend([make_model("cnn", CNN)]) as real:
            await real.load(0, 5, 0, "disk")
            with pytest.raises(OrderFailed, match="instance 5 is on device 0 already"):
                await real.load(0, 5, 0, "disk")
            state = (await real.workers[0].order("ping")).value
            assert state["used"] == real.ledger.device[0] == 415_424

    asyncio.run(main())


def test_swapping_over_and_over_takes_no_memory(make_model: MakeModel) -> None:
    async def main() -> tuple[int, int]:
        async with backend([make_model("gpt", GPT), make_model("cnn", CNN)]) as real:
            sizes = []
            for k in range(1200):
                if k in (200, 1199):
                    assert real.workers[0].pid is not None
                    sizes.append(own_bytes(real.workers[0].pid))
                await real.load(0, k, k % 2, "host" if k > 1 else "disk")
                await real.drop(0, k, True)
        return sizes[0], sizes[1]

    before, after = asyncio.run(main())
    assert after - before < 2 * MIB, "1,000 loads and drops later"
