"""Real worker processes on small models."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import MIB, backend
from small_models import CNN, GPT, MakeModel, image

from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.catalog import Model, ModelError, deploy
from stoker.runtime.process import OrderFailed, WorkerDied


def reference(model: Model, payloads: list[Any]) -> list[Any]:
    from stoker.runtime.models import load_reference

    return load_reference(model).answer(payloads)


def test_answers_after_many_swaps_equal_the_never_swapped_reference(make_model: MakeModel) -> None:
    models = [make_model("g0", GPT, 1), make_model("c0", CNN, 2), make_model("g1", GPT, 3)]
    models.append(make_model("c1", CNN, 4))
    payloads = [["once upon", "a time"], [image(0), image(1)]] * 2
    expected = [reference(m, p) for m, p in zip(models, payloads, strict=True)]
    rng = np.random.default_rng(0)
    room = sum(sorted(aligned(m.data_bytes) for m in models)[-2:])

    async def swap() -> None:
        async with backend(models, device=room + 128) as real:
            for number in range(200):
                fn = int(rng.integers(len(models)))
                source = "host" if rng.random() < 0.7 else "disk"
                await real.load(0, number, fn, source)
                reply = await real.run(0, number, payloads[fn])
                assert reply.value == expected[fn]
                await real.drop(0, number, bool(rng.random() < 0.7))
                if rng.random() < 0.1:
                    real.drop_host(fn)
            assert real.ledger.device == (0,)
            books = (await real.workers[0].order("ping")).value
            assert books == {"used": 0, "instances": [], "decoders": {}}

    asyncio.run(swap())


@pytest.mark.slow
def test_a_thousand_swaps_leave_memory_flat(make_model: MakeModel) -> None:
    models = [make_model("g", GPT, 1), make_model("c", CNN, 2)]

    def resident_bytes(pid: int | None) -> int:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def swap() -> None:
        async with backend(models) as real:
            sizes = []
            for number in range(1200):
                await real.load(0, number, number % 2, "host" if number % 3 else "disk")
                await real.run(0, number, ["x"] if number % 2 == 0 else [image(0)])
                await real.drop(0, number, True)
                if number in (200, 1199):
                    sizes.append(resident_bytes(real.workers[0].pid))
            assert sizes[1] - sizes[0] < 4 * MIB

    asyncio.run(swap())


def test_a_fragmented_arena_is_compacted_and_answers_stay_right(make_model: MakeModel) -> None:
    small, large = make_model("small", GPT, 1), make_model("large", CNN, 2)
    size = aligned(small.data_bytes)
    room = -(-aligned(large.data_bytes) // size) + 2

    async def fill() -> None:
        async with backend([small, large], device=room * size) as real:
            for number in range(room):
                await real.load(0, number, 0, "disk")
            with pytest.raises(OrderFailed, match="device arena: asked for"):
                await real.load(0, 99, 1, "disk")
            assert real.ledger.device == (room * size,)
            kept = [1, room - 1]
            for number in set(range(room)) - set(kept):
                await real.drop(0, number, False)
            await real.load(0, 99, 1, "disk")
            for number in kept:
                assert (await real.run(0, number, ["x"])).value == reference(small, ["x"])
            assert (await real.run(0, 99, [image(0)])).value == reference(large, [image(0)])

    asyncio.run(fill())


def test_a_worker_killed_in_mid_batch_fails_that_batch_and_serves_the_next(
    make_model: MakeModel,
) -> None:
    model = make_model("slow", GPT, 0, width=128, layers=4)
    lost: list[tuple[int, list[int]]] = []

    async def kill() -> None:
        async with backend([model], host=8 * MIB) as real:
            real.on_lost = lambda gpu, instances: lost.append((gpu, instances))
            await real.fetch_host(0)
            await real.load(0, 5, 0, "host")
            batch = real.run(0, 5, ["x"] * 4000)
            await asyncio.sleep(0.1)
            assert not batch.done()
            os.kill(real.workers[0].pid or 0, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await asyncio.wait_for(batch, 5.0)
            assert lost == [(0, [5])] and real.ledger.device == (0,)
            began = time.perf_counter()
            await real.load(0, 6, 0, "host")
            assert real.ledger.host_misses == 0
            assert (await real.run(0, 6, ["hello"])).value == reference(model, ["hello"])
            assert time.perf_counter() - began < 5.0
            assert len(real.workers[0].start_s) == 2

    asyncio.run(kill())


def test_a_worker_killed_in_mid_load_leaves_a_host_tier_that_reads_disk_again(
    make_model: MakeModel,
) -> None:
    model = make_model("m")

    async def kill() -> None:
        async with backend([model]) as real:
            os.kill(real.workers[0].pid or 0, signal.SIGSTOP)
            fetch, load = real.fetch_host(0), real.load(0, 1, 0, "host")
            await asyncio.sleep(0.05)
            os.kill(real.workers[0].pid or 0, signal.SIGKILL)
            done = await asyncio.gather(fetch, load, return_exceptions=True)
            assert all(isinstance(d, WorkerDied) for d in done)
            assert real.ledger.host == 0 and real.ledger.device == (0,)
            await real.load(0, 2, 0, "host")
            assert real.ledger.host_misses == 1
            assert (await real.run(0, 2, ["x"])).value == reference(model, ["x"])

    asyncio.run(kill())


def test_a_frozen_worker_is_ended_and_its_orders_fail(make_model: MakeModel) -> None:
    model = make_model("m")

    async def freeze() -> None:
        async with backend([model]) as real:
            worker = real.workers[0]
            worker.order_timeout_s = 0.3
            os.kill(worker.pid or 0, signal.SIGSTOP)
            with pytest.raises(WorkerDied):
                await asyncio.wait_for(real.load(0, 1, 0, "disk"), 5.0)
            worker.order_timeout_s = 30.0
            await real.load(0, 1, 0, "disk")

    asyncio.run(freeze())


def test_a_worker_that_keeps_dying_takes_its_device_down(make_model: MakeModel) -> None:
    model = make_model("m")

    async def kill() -> None:
        async with backend([model]) as real:
            for _ in range(6):
                await asyncio.wait_for(real.workers[0].order("ping"), 10.0)
                os.kill(real.workers[0].pid or 0, signal.SIGKILL)
                with pytest.raises(WorkerDied):
                    await asyncio.wait_for(real.workers[0].order("ping"), 10.0)
            with pytest.raises(WorkerDied, match="device 0 is down"):
                await real.load(0, 1, 0, "disk")

    asyncio.run(kill())


def test_a_file_that_is_cut_short_later_fails_its_load_alone(make_model: MakeModel) -> None:
    good, bad = make_model("good"), make_model("bad", seed=1)

    async def cut() -> None:
        async with backend([good, bad]) as real:
            bad.weights_file.write_bytes(bad.weights_file.read_bytes()[:-64])
            with pytest.raises(OrderFailed, match=r"bad/model\.safetensors: data.*cut short"):
                await real.load(0, 1, 1, "disk")
            with pytest.raises(OrderFailed, match=r"bad/model\.safetensors: data"):
                await real.fetch_host(1)
            assert real.ledger.device == (0,) and real.ledger.host == 0
            await real.load(0, 2, 0, "disk")
            assert (await real.run(0, 2, ["x"])).value == reference(good, ["x"])

    asyncio.run(cut())


def test_weights_that_do_not_match_the_config_are_named_at_the_start(
    make_model: MakeModel,
) -> None:
    model = make_model("odd")
    config = model.folder / "config.json"
    config.write_text(config.read_text().replace('"layers": 2', '"layers": 3'))

    async def start() -> None:
        async with backend([Model.read(model.folder)]):
            raise AssertionError

    with pytest.raises(WorkerDied, match=r"tensor blocks\.2\..* = 'missing'"):
        asyncio.run(start())


def test_a_model_larger_than_the_device_is_named(make_model: MakeModel) -> None:
    model = make_model("large", CNN)
    with pytest.raises(ModelError, match=r"function\[large-0\].*<= 100000 bytes"):
        TorchBackend(deploy([model], 1), [100_000])


def test_a_batch_that_cannot_be_served_fails_alone(make_model: MakeModel) -> None:
    model = make_model("digits", CNN)

    async def run() -> None:
        async with backend([model]) as real:
            await real.load(0, 1, 0, "disk")
            with pytest.raises(OrderFailed, match="reshape"):
                await real.run(0, 1, [np.zeros(7)])
            assert (await real.run(0, 1, [image(0)])).value == reference(model, [image(0)])

    asyncio.run(run())


def test_a_full_host_tier_refuses_and_loads_go_to_disk(make_model: MakeModel) -> None:
    models = [make_model("a"), make_model("b", seed=1)]

    async def fill() -> None:
        async with backend(models, host=models[0].data_bytes) as real:
            await real.fetch_host(0)
            with pytest.raises(MemoryError, match="host tier: asked for"):
                await real.fetch_host(1)
            await real.load(0, 1, 1, "host")
            assert real.ledger.host_misses == 1
            await real.drop(0, 1, True)
            assert real.ledger.host == models[0].data_bytes
            real.drop_host(0)
            assert real.ledger.host == 0

    asyncio.run(fill())


def test_two_devices_share_the_host_tier(make_model: MakeModel) -> None:
    model = make_model("m")

    async def share() -> None:
        real = TorchBackend(deploy([model], 1), [4 * MIB, 4 * MIB], 4 * MIB)
        await real.start()
        try:
            fetch = real.fetch_host(0)
            await asyncio.gather(fetch, real.load(0, 1, 0, "host"), real.load(1, 2, 0, "host"))
            one, two = await asyncio.gather(real.run(0, 1, ["x"]), real.run(1, 2, ["x"]))
            assert one.value == two.value == reference(model, ["x"])
            assert real.ledger.host_misses == 0
            assert real.ledger.host == 0, "a load uses the host copy up"
        finally:
            await real.close()

    asyncio.run(share())
